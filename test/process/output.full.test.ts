import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, configuration } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { freePort, redisSentinel } from '../support/redis.ts';

test('all that a gateway writes while a Sentinel goes away is JSON, a line each, on standard output', async () => {
  await using set = await redisSentinel();
  const simulator = await createSimulator();
  const redis = { sentinels: set.sentinels, name: set.name };
  await using files = await folder({
    'gateway.yaml': JSON.stringify(configuration(simulator.url, { redis, log: { level: 'debug' } })),
  });
  await using gateway = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
  await gateway.listening();
  await set.loseSentinel();
  await gateway.waitFor(/no connection to a Sentinel/);
  gateway.child.kill('SIGINT');
  expect(await gateway.exited).toMatchObject({ code: 0 });
  expect(gateway.stderr()).toBe('');
  const lines = gateway.stdout().trimEnd().split('\n');
  for (const line of lines) expect(JSON.parse(line), line).toHaveProperty('msg');
  await simulator.close();
}, 90_000);

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

test.each(['whose disk is full', 'that is closed', 'that is not read'])(
  'a gateway with a standard output %s serves and drains like any other, and counts what it lost',
  async (how) => {
    const simulator = await createSimulator();
    const [traffic, admin] = [await freePort(), await freePort()];
    const listen = { traffic: { host: '127.0.0.1', port: traffic }, admin: { host: '127.0.0.1', port: admin } };
    const config = configuration(simulator.url, { listen, drain: { delay: '0s' }, log: { level: 'debug' } });
    await using files = await folder({ 'gateway.yaml': JSON.stringify(config) });
    const full = openSync('/dev/full', 'w');
    const gateway = spawn(process.execPath, [MAIN, 'serve', '--config', 'gateway.yaml'], {
      cwd: files.path,
      stdio: ['ignore', how === 'whose disk is full' ? full : 'pipe', 'pipe'],
    });
    const exited = once(gateway, 'exit');
    closeSync(full);
    if (how === 'that is closed') gateway.stdout?.destroy();
    try {
      const ready = () => fetch(`http://127.0.0.1:${admin}/readyz`);
      await vi.waitFor(async () => expect((await ready()).status).toBe(200), { timeout: 20_000 });
      const headers = { Authorization: `Bearer ${BILLING_KEY}` };
      for (let i = 0; i < 500; i++) {
        const response = await fetch(`http://127.0.0.1:${traffic}/api/v1/flows`, { headers });
        expect([response.status, await response.text()]).toEqual([200, expect.stringContaining('data')]);
      }
      const lost = async () => {
        const exposition = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
        return Number(/^patchgate_log_lines_dropped_total (\d+)$/m.exec(exposition)?.[1]);
      };
      if (how === 'that is not read') expect(await lost()).toBe(0);
      else await vi.waitFor(async () => expect(await lost()).toBeGreaterThan(500), { timeout: 10_000 });
      gateway.kill('SIGTERM');
      expect(await exited).toEqual([0, null]);
    } finally {
      gateway.kill('SIGKILL');
      await exited;
      await simulator.close();
    }
  },
);
