import { expect, test } from 'vitest';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, configuration } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { freePort, redisServer, until } from '../support/redis.ts';

test('a gateway that is killed and starts again on its port is the same replica, and its slots stay held', async () => {
  await using redis = await redisServer();
  const simulator = await createSimulator();
  const at = (port: number) => ({ host: '127.0.0.1', port });
  const [port, adminPort] = [await freePort(), await freePort()];
  const config = configuration(simulator.url, {
    listen: { traffic: at(port), admin: at(adminPort) },
    redis: { url: redis.url, timeout: '2s' },
  });
  await using files = await folder({ 'gateway.yaml': JSON.stringify(config) });
  const ask = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/flow-runs`, {
      headers: { 'X-API-Key': BILLING_KEY },
    });
    await response.arrayBuffer();
    return response.status;
  };
  const start = async () => {
    const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    await process.listening();
    await until('it has joined and answers', async () => (await ask()) === 200);
    return process;
  };
  const allSlotsHeldByOneReplica = async () => {
    const status = (await (await fetch(`http://127.0.0.1:${adminPort}/status`)).json()) as StatusDocument;
    const { slotsInUse, replicas } = status.accounts['main']!;
    return slotsInUse === simulator.stats().arrived && replicas === 1;
  };
  try {
    await using first = await start();
    for (let i = 0; i < 5; i++) expect(await ask()).toBe(200);
    await until('the slots of the first process are held', allSlotsHeldByOneReplica);
    first.child.kill('SIGKILL');
    await first.exited;
    await using second = await start();
    for (let i = 0; i < 5; i++) expect(await ask()).toBe(200);
    await until('the slots of both processes are held', allSlotsHeldByOneReplica);
    second.child.kill('SIGINT');
    expect(await second.exited).toEqual({ code: 0, signal: null });
  } finally {
    await simulator.close();
  }
});
