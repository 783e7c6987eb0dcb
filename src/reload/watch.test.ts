import { mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { writeConfigMap } from '../../test/support/kubelet.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { type Clock, systemClock } from '../clock.ts';
import { createFileReaders, type ReadFile } from '../config/read-file.ts';
import { type FileContents, recordingReader } from './reloader.ts';
import { watchFiles } from './watch.ts';

const readers = createFileReaders({ clock: systemClock });

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Options {
  readonly paths: (folder: string) => string[];
  readonly prepare: (folder: string) => Promise<unknown>;
  /** Long by default: a change that is found within a test shows in size or times of the file. */
  readonly pollMs?: number | null;
  readonly fileReader?: () => ReadFile;
  readonly clock?: Clock;
  /** An existing one, which another watch has made. */
  readonly folder?: string;
}

/** Real files. `loads` is what each load has read, by name. */
async function watching(options: Options) {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'patchgate-watch-')));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  await options.prepare(folder);
  const paths = options.paths(folder);
  const loads: string[] = [];
  const { fileReader = readers } = options;
  let files: FileContents = new Map();
  let pollMs = options.pollMs === undefined ? 3_600_000 : options.pollMs;
  const read = async (): Promise<string> => {
    const reader = recordingReader(fileReader());
    const texts = await Promise.all(paths.map((path) => reader.readFile(path).catch(() => 'missing')));
    files = reader.files;
    return texts.join(' ');
  };
  await read();
  const watch = watchFiles({
    files: () => files,
    pollMs: () => pollMs,
    reload: async () => void loads.push(await read()),
    fileReader,
    clock: options.clock ?? systemClock,
  });
  closers.push(() => watch.close());
  const loaded = async (text: string) => {
    const deadline = performance.now() + 20_000;
    while (loads.at(-1) !== text) {
      if (performance.now() > deadline) throw new Error(`not loaded: ${text}; loads: ${JSON.stringify(loads)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return {
    ...{ folder, loads, watch, loaded },
    at: (name: string) => join(folder, name),
    setPollMs: (ms: number | null) => {
      pollMs = ms;
    },
  };
}

const single = (more: Partial<Options> = {}) =>
  watching({
    prepare: (folder) => writeFile(join(folder, 'gateway.yaml'), 'one'),
    paths: (folder) => [join(folder, 'gateway.yaml')],
    ...more,
  });

/** Time moves only by `looks`, which resolves when all that was due has been looked at; each second, at least, that is. */
async function stepping(more: Partial<Options> = {}) {
  const clock = new ManualClock();
  const watched = await single({ clock, pollMs: 1_000, ...more });
  const looks = async (ms: number) => {
    clock.advance(ms);
    // A look is over when the next one is due.
    while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  return { ...watched, looks };
}

describe('a change is loaded', () => {
  test('by a plain write in place', async () => {
    const { at, loaded } = await single();
    await writeFile(at('gateway.yaml'), 'two');
    await loaded('two');
  });

  test('by a file that is renamed over the old one, again and again', async () => {
    const { at, loaded, loads } = await single();
    for (const text of ['two', 'three', 'four']) {
      await writeFile(at('.gateway.yaml.swp'), text);
      await rename(at('.gateway.yaml.swp'), at('gateway.yaml'));
      await loaded(text);
    }
    expect(loads).toEqual(['two', 'three', 'four']);
  });

  test('when Kubernetes swaps a ConfigMap, and swaps it again', async () => {
    const { folder, loaded, loads } = await watching({
      prepare: (to) => writeConfigMap(to, { 'gateway.yaml': 'g1', 'tenants.yaml': 't1' }),
      paths: (to) => [join(to, 'gateway.yaml'), join(to, 'tenants.yaml')],
    });
    for (const i of [2, 3]) {
      await writeConfigMap(folder, { 'gateway.yaml': `g${i}`, 'tenants.yaml': `t${i}` });
      await loaded(`g${i} t${i}`);
    }
    expect(loads).toEqual(['g2 t2', 'g3 t3']);
  });

  test('in another directory: a secret beside, and behind a link', async () => {
    const { at, loaded } = await watching({
      prepare: async (to) => {
        for (const name of ['etc', 'run', 'far']) await mkdir(join(to, name));
        await writeFile(join(to, 'etc/gateway.yaml'), 'g');
        await writeFile(join(to, 'run/secret'), 's1');
        await writeFile(join(to, 'far/real'), 'r1');
        await symlink('../far/real', join(to, 'run/linked'));
      },
      paths: (to) => [join(to, 'etc/gateway.yaml'), join(to, 'run/secret'), join(to, 'run/linked')],
    });
    await writeFile(at('run/secret'), 's2');
    await loaded('g s2 r1');
    await writeFile(at('far/real'), 'r2');
    await loaded('g s2 r2');
  });

  test('when a file goes and comes back, and when its directory does', async () => {
    const { at, loaded } = await watching({
      prepare: async (to) => {
        await mkdir(join(to, 'etc/deep'), { recursive: true });
        await writeFile(join(to, 'etc/deep/gateway.yaml'), 'one');
      },
      paths: (to) => [join(to, 'etc/deep/gateway.yaml')],
    });
    await rm(at('etc/deep/gateway.yaml'));
    await loaded('missing');
    await writeFile(at('etc/deep/gateway.yaml'), 'two');
    await loaded('two');
    for (const text of ['three', 'four']) {
      await rm(at('etc'), { recursive: true });
      await loaded('missing');
      await mkdir(at('etc/deep'), { recursive: true });
      await writeFile(at('etc/deep/gateway.yaml'), text);
      await loaded(text);
    }
  });
});

describe('nothing is loaded', () => {
  test('when a file is touched, rewritten as it was, or another one beside it changes', async () => {
    const { at, loads, looks } = await stepping();
    await utimes(at('gateway.yaml'), new Date(), new Date());
    await writeFile(at('gateway.yaml'), 'one');
    await writeFile(at('gateway.yaml.bak'), 'other');
    for (let i = 0; i < 5; i++) await looks(1_000);
    expect(loads).toEqual([]);
    await writeFile(at('gateway.yaml'), 'two');
    for (let i = 0; i < 5; i++) await looks(1_000);
    expect(loads).toEqual(['two']);
  });

  test('of a file that is written bit by bit, before it is complete', async () => {
    const { at, loads, looks } = await stepping();
    for (let length = 0; length <= 20; length++) {
      await writeFile(at('gateway.yaml'), 'x'.repeat(length));
      await looks(100);
    }
    expect(loads).toEqual([]);
    await looks(100);
    await looks(100);
    expect(loads).toEqual(['x'.repeat(20)]);
  });

  test('while it is turned off', async () => {
    const { at, folder, watch, loads, loaded, setPollMs } = await single();
    const witness = await single({ folder });
    await writeFile(at('gateway.yaml'), 'two');
    await Promise.all([loaded('two'), witness.loaded('two')]);
    setPollMs(null);
    watch.refresh();
    await writeFile(at('gateway.yaml'), 'three');
    await witness.loaded('three');
    expect(loads).toEqual(['two']);
    setPollMs(3_600_000);
    watch.refresh();
    await loaded('three');
  });
});

describe('a change that shows in neither size nor times of a file', () => {
  async function reading(pollMs: number) {
    let text = 'one';
    const stepped = await stepping({ fileReader: () => async () => text, pollMs });
    for (let i = 0; i < 5; i++) await stepped.looks(150);
    const write = (next: string): void => {
      text = next;
    };
    return { ...stepped, write };
  }

  test('is found by the poll', async () => {
    const { write, looks, loads } = await reading(1_000);
    write('two');
    for (let i = 0; i < 9; i++) await looks(150);
    expect(loads).toEqual(['two']);
  });

  test('is found at once if it follows one that does, within the granularity of the times', async () => {
    const { at, write, looks, loads } = await reading(3_600_000);
    await writeFile(at('gateway.yaml'), 'longer');
    await looks(150);
    write('two');
    for (let i = 0; i < 3; i++) await looks(150);
    expect(loads).toEqual(['two']);
  });
});
