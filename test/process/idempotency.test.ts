import { expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, codeOf, configuration, eventually } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { redisServer, until } from '../support/redis.ts';

test('a write whose replica was killed is in flight for its lease, then of unknown outcome, and is never started again', async () => {
  await using redis = await redisServer();
  const simulator = await createSimulator();
  await using files = await folder({
    'gateway.yaml': JSON.stringify(configuration(simulator.url, { redis: { url: redis.url } })),
  });
  const serve = async () => {
    const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    const { traffic } = await process.listening();
    return { process, url: `http://127.0.0.1:${traffic}` };
  };
  const auth = { Authorization: `Bearer ${BILLING_KEY}`, Prefer: 'wait=10' };
  const start = (url: string) =>
    fetch(`${url}/api/v1/flows/1/start`, {
      method: 'POST',
      body: '{}',
      headers: { ...auth, 'Idempotency-Key': 'killed', 'Content-Type': 'application/json' },
    });
  const writes = () => simulator.arrivals().filter(({ method }) => method === 'POST');

  const victim = await serve();
  const survivor = await serve();
  await using _one = victim.process;
  await using _two = survivor.process;
  for (const { url } of [victim, survivor])
    await (await fetch(`${url}/api/v1/notifications`, { headers: auth })).text();
  simulator.fault({ match: 'POST /api/v1/**', fault: { kind: 'stall', when: 'before' } });
  const lost = start(victim.url).catch(() => 'lost');
  await eventually(() => writes().length === 1, 'the request is under way');
  victim.process.child.kill('SIGKILL');
  expect(await lost).toBe('lost');
  await victim.process.exited;

  const during = await start(survivor.url);
  expect([during.status, await codeOf(during)]).toEqual([409, 'idempotency_conflict']);
  const client = redis.client();
  const [key = ''] = (await client.keys('*')).filter((each) => /:idempotency:(?!state|bytes)/.test(each));
  const leaseEndsIn = Number(await client.hget(key, 'u')) - Date.now();
  // Twice the upstream's two seconds, and a minute.
  expect(leaseEndsIn).toBeLessThanOrEqual(64_000);
  expect(leaseEndsIn).toBeGreaterThan(30_000);
  await client.hincrby(key, 'u', -leaseEndsIn);
  await until('the lease has run out', async () => (await start(survivor.url)).status !== 409);
  const after = await start(survivor.url);
  expect([after.status, after.headers.get('idempotency-replayed'), await codeOf(after)]).toEqual([
    504,
    'true',
    'upstream_timeout',
  ]);
  expect(writes()).toHaveLength(1);
  await simulator.close();
});
