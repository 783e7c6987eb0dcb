import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import { type Loaded, loadSettings } from '../config/load.ts';
import { createFileReaders, type ReadFile } from '../config/read-file.ts';
import { createGateway } from '../gateway/gateway.ts';
import { createReloader } from './reloader.ts';

const TEST = { actor: 'test', address: null };
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const config = (delay: string) =>
  JSON.stringify({
    accounts: { main: { credentials: [{ id: 'k', apiKey: 'fake-key' }] } },
    tenants: { billing: {} },
    drain: { delay },
  });

/** Real files and a gateway that listens nowhere; each load waits until the test lets it go. */
async function reloading() {
  const folder = await mkdtemp(join(tmpdir(), 'patchgate-reload-'));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'gateway.yaml');
  const write = (text: string) => writeFile(path, text);
  await write(config('1s'));
  const gates: (() => void)[] = [];
  let gated = false;
  let loads = 0;
  let fails = false;
  const load = async (readFile: ReadFile): Promise<Loaded> => {
    loads += 1;
    if (gated) await new Promise<void>((resolve) => gates.push(resolve));
    if (fails) throw new Error('a fault of our own');
    return loadSettings({ path, env: {}, readFile });
  };
  const reloader = createReloader(load, createFileReaders({ clock: systemClock }));
  const first = await reloader.first();
  if (!first.ok) throw new Error('the first load failed');
  const lines: string[] = [];
  const gateway = createGateway({ settings: first.settings, logTo: { write: (line) => void lines.push(line) } });
  closers.push(() => gateway.close());
  const open = async () => {
    while (gates.length === 0) await new Promise((resolve) => setImmediate(resolve));
    gates.shift()?.();
  };
  return {
    ...{ reloader, gateway, write, open, lines },
    path,
    loads: () => loads,
    gate: () => {
      gated = true;
    },
    failing: (does: boolean) => {
      fails = does;
    },
  };
}

describe('a reload', () => {
  test('is one at a time, and all calls meanwhile get the outcome of one that began after them', async () => {
    const { reloader, gateway, write, open, gate, loads, lines } = await reloading();
    await reloader.attach(gateway, () => {});
    gate();
    await write(config('2s'));
    const early = reloader.reload(TEST);
    while (loads() < 2) await new Promise((resolve) => setImmediate(resolve));
    const late = Array.from({ length: 50 }, (_, i) => reloader.reload({ actor: `caller-${i}`, address: null }));
    await open();
    expect(await early).toMatchObject({ ok: true, changed: ['drain.delay 1s → 2s'] });
    await write('cut: [');
    await open();
    expect((await Promise.all(late)).map(({ ok }) => ok)).toEqual(late.map(() => false));
    expect(loads()).toBe(3);
    // Each of them has an audit line of its own.
    const refused = lines
      .map((line) => JSON.parse(line))
      .filter(({ audit, outcome }) => audit && outcome === 'refused');
    expect(refused.map(({ actor }) => actor)).toEqual(late.map((_, i) => `caller-${i}`));
  });

  test('asked for before there is a gateway happens when there is one, once', async () => {
    const { reloader, gateway, write, loads } = await reloading();
    const asked = [reloader.reload(TEST), reloader.reload(TEST)];
    await write(config('2s'));
    await reloader.attach(gateway, () => {});
    expect((await Promise.all(asked)).map((outcome) => outcome.ok && outcome.changed)).toEqual([
      ['drain.delay 1s → 2s'],
      ['drain.delay 1s → 2s'],
    ]);
    expect(loads()).toBe(2);
  });

  test('logs a warning when it is new, and not again while it stays', async () => {
    const { reloader, gateway, write, lines } = await reloading();
    await reloader.attach(gateway, () => {});
    const warnings = () =>
      lines.filter((line) => JSON.parse(line).level === 'warn').map((line) => JSON.parse(line).msg);
    const withAllow = (allow: string[] | undefined) =>
      write(JSON.stringify({ ...JSON.parse(config('1s')), tenants: { billing: { allow } } }));
    const EMPTY = 'tenants.billing.allow is empty: it permits nothing';
    for (const allow of [undefined, [], [], undefined, []]) {
      await withAllow(allow);
      expect(await reloader.reload(TEST)).toMatchObject({ ok: true });
    }
    // The key that is missing was named at the start.
    expect(warnings()).toEqual([EMPTY, EMPTY]);
  });

  test('that fails by a fault of our own is refused and logged, and the next one works', async () => {
    const { reloader, gateway, failing, lines } = await reloading();
    let after = 0;
    await reloader.attach(gateway, () => {
      after += 1;
    });
    failing(true);
    expect((await reloader.reload(TEST)).ok).toBe(false);
    expect(lines.join('')).toContain('a fault of our own');
    failing(false);
    expect((await reloader.reload(TEST)).ok).toBe(true);
    expect(after).toBe(2);
  });
});

test('files that are swapped while they are read are read again', async () => {
  const { path } = await reloading();
  let swaps = 0;
  const reloader = createReloader(
    async (readFile) => {
      const loaded = await loadSettings({ path, env: {}, readFile });
      swaps += 1;
      if (swaps === 1) await writeFile(path, config('3s'));
      return loaded;
    },
    createFileReaders({ clock: systemClock }),
  );
  const loaded = await reloader.first();
  expect([swaps, loaded.ok && loaded.settings.drain.delayMs]).toEqual([2, 3_000]);
});
