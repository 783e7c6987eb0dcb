import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, type Config, configuration, eventually, sha256, TENANTS } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';

const NEW_KEY = 'pgk_billing_fake-new-key';

async function serve() {
  const simulator = await createSimulator();
  const files = await folder({ 'gateway.yaml': JSON.stringify(configuration(simulator.url)) });
  const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
  const [, line = ''] = await process.waitFor(/(\{.*"msg":"listening"\})/);
  const { traffic, admin } = JSON.parse(line) as Record<'traffic' | 'admin', { port: number }>;
  const url = `http://127.0.0.1:${traffic.port}`;
  const reloads = async () => {
    const text = await (await fetch(`http://127.0.0.1:${admin.port}/metrics`)).text();
    const count = (outcome: string) =>
      Number(new RegExp(`^patchgate_config_reloads_total{outcome="${outcome}"} (\\d+)$`, 'm').exec(text)?.[1]);
    return { ok: count('ok'), refused: count('refused') };
  };
  const status = async (key: string) => {
    const response = await fetch(`${url}/api/v1/flow-runs`, { headers: { Authorization: key } });
    await response.arrayBuffer();
    return response.status;
  };
  return {
    simulator,
    process,
    reloads,
    status,
    write: (text: string) => writeFile(join(files.path, 'gateway.yaml'), text),
    hangUp: () => process.child.kill('SIGHUP'),
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await files[Symbol.asyncDispose]();
      await simulator.close();
    },
  };
}

const withKey = (upstream: string, key: string, more: Config = {}) =>
  JSON.stringify(
    configuration(upstream, {
      tenants: { billing: { ...TENANTS.billing, keys: [{ id: 'k', sha256: sha256(key) }] } },
      ...more,
    }),
  );

describe('SIGHUP', () => {
  test('takes over the edited file; refuses a bad one with its problems, counts it, and goes on with the old', async () => {
    await using running = await serve();
    expect([await running.status(BILLING_KEY), await running.status(NEW_KEY)]).toEqual([200, 401]);
    await running.write(withKey(running.simulator.url, NEW_KEY, { log: { level: 'debug' } }));
    running.hangUp();
    await running.process.waitFor(/"msg":"configuration reloaded"/);
    expect([await running.status(BILLING_KEY), await running.status(NEW_KEY)]).toEqual([401, 200]);
    expect(await running.reloads()).toEqual({ ok: 2, refused: 0 });

    await running.write('acounts: {}\nlisten: { traffic: { port: 99999 } }\ntenants: {}\n');
    running.hangUp();
    const [line] = await running.process.waitFor(/\{.*"msg":"the new configuration is refused.*\}/);
    const { level, problems } = JSON.parse(line) as { level: string; problems: string[] };
    expect([level, problems.map((each) => each.split(': ').slice(0, 2).join(' ')).sort()]).toEqual([
      'error',
      ['gateway.yaml:1 accounts', 'gateway.yaml:1 acounts', 'gateway.yaml:2 listen.traffic.port'],
    ]);
    expect(await running.reloads()).toEqual({ ok: 2, refused: 1 });
    expect(await running.status(NEW_KEY)).toBe(200);
    running.process.child.kill('SIGINT');
    expect(await running.process.exited).toEqual({ code: 0, signal: null });
    expect(running.process.stderr()).toBe('');
  });

  test('ten times under load loses no request, and the last file counts', async () => {
    await using running = await serve();
    let going = true;
    const statuses: number[] = [];
    const workers = Array.from({ length: 4 }, async () => {
      while (going) statuses.push(await running.status(BILLING_KEY));
    });
    for (let i = 1; i <= 10; i++) {
      const before = statuses.length;
      await running.write(withKey(running.simulator.url, BILLING_KEY, { drain: { delay: `${i}ms` } }));
      running.hangUp();
      await eventually(async () => (await running.reloads()).ok === i + 1, `reload ${i}`);
      await eventually(() => statuses.length > before + 4, 'requests go on');
    }
    going = false;
    await Promise.all(workers);
    expect(statuses.filter((each) => each !== 200 && each !== 429)).toEqual([]);
    expect(running.simulator.stats().accounts['main']!.greatestCountedIn60s).toBeLessThanOrEqual(235);
  });

  test('that comes while the process starts does not end it', async () => {
    await using files = await folder({ 'gateway.yaml': JSON.stringify(configuration('http://127.0.0.1:1')) });
    await using process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    const teasing = setInterval(
      () => process.child.kill(0) && process.stdout() !== '' && process.child.kill('SIGHUP'),
      5,
    );
    try {
      await process.waitFor(/"msg":"configuration reloaded"/);
    } finally {
      clearInterval(teasing);
    }
    process.child.kill('SIGINT');
    expect((await process.exited).code).toBe(0);
  });
});
