import { describe, expect, test } from 'vitest';
import { codeOf, configuration, READER_KEY, run, TENANTS } from '../support/gateway.ts';
import { type GatewayReplicas, runReplicas } from '../support/gateway-replicas.ts';
import { FAIL_OVER_MS, redisCluster, redisSentinel, redisServer, until } from '../support/redis.ts';

const reader = { headers: { Authorization: READER_KEY } };

describe('replicas that share a Redis', () => {
  test('share the quota of a tenant, and tell it the same', async () => {
    await using redis = await redisServer();
    const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url } });
    await using one = await run({ config });
    await using two = await run({ config });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) {
      statuses.push((await one.fetch('/api/v1/flow-runs', reader)).status);
      statuses.push((await two.fetch('/api/v1/flow-runs', reader)).status);
    }
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(one.simulator.stats().arrived + two.simulator.stats().arrived).toBe(5);
    expect(await one.metric('patchgate_redis_up')).toBe(1);
    const status = (await (await fetch(`${one.adminUrl}/status`)).json()) as { state: unknown };
    expect(status.state).toEqual({
      kind: 'redis',
      up: true,
      fallback: false,
      problem: null,
      eviction: { policy: 'noeviction', removes: false },
    });
  });

  test.each(['local', 'closed'])('know how many count together, with onOutage %s', async (onOutage) => {
    await using redis = await redisServer();
    const config = (upstream: string) =>
      configuration(upstream, { redis: { url: redis.url, onOutage }, drain: { delay: '0s' } });
    await using one = await run({ config });
    await using two = await run({ config });
    const known = () => Promise.all([one, two].map((each) => each.metric('patchgate_quota_replicas')));
    await until('each knows of the other', async () => (await known()).join() === '2,2');
    await two.drain();
    await until('it has heard the other leave', async () => (await one.metric('patchgate_quota_replicas')) === 1);
  });

  test('are held together when upstream says 429 to one of them', async () => {
    await using redis = await redisServer();
    const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url } });
    await using one = await run({ config });
    await using two = await run({ config });
    one.simulator.fault({
      match: 'GET /api/v1/**',
      times: 1,
      fault: { kind: 'status', status: 429, headers: { 'Retry-After': '30' }, body: '' },
    });
    expect(await codeOf(await one.fetch('/api/v1/flow-runs'))).toBe('upstream_cooldown');
    await until(
      'the other has heard',
      async () => (await codeOf(await two.fetch('/api/v1/flow-runs'))) === 'upstream_cooldown',
    );
    const status = (await (await fetch(`${two.adminUrl}/status`)).json()) as {
      accounts: { main: { cooldownMs: number } };
    };
    expect(status.accounts.main.cooldownMs).toBeGreaterThan(25_000);
  });

  test('refuse a flood of what is known to be out without asking Redis', async () => {
    await using redis = await redisServer();
    // No token comes back during the test, however long it takes.
    const tenants = { ...TENANTS, reader: { ...TENANTS.reader, quota: { rate: 1, burst: 5, maxWait: '0s' } } };
    const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url }, tenants });
    await using gateway = await run({ config });
    const flood = (requests: number) =>
      Promise.all(
        Array.from({ length: requests }, async () => {
          const response = await gateway.fetch('/api/v1/flow-runs', reader);
          await response.arrayBuffer();
          return response.status;
        }),
      );
    await flood(6);
    // Refused callers get a time of their own, up to a thousand of a tenant. Here are as many, so there is none to give.
    const client = redis.client();
    const [state] = await client.keys('*{main}:quota');
    const now = Number(await client.hget(String(state), 'time'));
    const appointments = Array.from({ length: 1_000 }, (_, i) => now + 60_000 + i * 2_000);
    await client.hset(String(state), 'bookings:reader', JSON.stringify({ waiting: [], appointments }));
    await flood(1);
    const calls = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
    const before = await calls();
    const begunAt = performance.now();
    const refused = (await flood(200)).filter((status) => status === 429).length;
    const tookSeconds = (performance.now() - begunAt) / 1000;
    const asked = (await calls()) - before;
    expect(await client.hget(String(state), 'bookings:reader')).toContain(String(appointments.at(-1)));
    expect(refused).toBe(200);
    // For any number of requests, a replica sends a heartbeat twice a second, and asks for the writes of others. Once a second
    // those ask that come before the first of them has a response.
    expect(asked).toBeLessThanOrEqual(5 + Math.ceil(30 * tookSeconds));
  });
});

describe('replicas whose account has a login', () => {
  const logins = ({ simulator }: GatewayReplicas) =>
    simulator.arrivals().filter(({ target }) => target === '/fabric/api/login').length;
  const askAll = (gateways: GatewayReplicas, count: number): Promise<number[]> =>
    Promise.all(
      Array.from({ length: count }, async (_, n) => {
        const response = await gateways.at(n).fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=10' } });
        await response.arrayBuffer();
        return response.status;
      }),
    );

  test('log in once each, whatever the number of requests, and no token gets into Redis', async () => {
    await using redis = await redisServer();
    const simulator = { switches: { responseLatency: { kind: 'fixed', ms: 60 } } } as const;
    await using gateways = await runReplicas(redis, 3, { login: true, simulator });
    expect(await askAll(gateways, 60)).toEqual(Array(60).fill(200));
    expect(logins(gateways)).toBe(3);
    gateways.simulator.credentials.expireTokens();
    expect(await askAll(gateways, 60)).toEqual(Array(60).fill(200));
    expect(logins(gateways)).toBe(6);
    expect(await redis.client().keys('*login*')).toEqual([]);
  });
});

describe('a gateway that loses Redis', () => {
  test('waits a moment, goes on with its share, is ready all the time, and comes back', async () => {
    await using redis = await redisServer();
    await using gateway = await run({ config: (upstream) => configuration(upstream, { redis: { url: redis.url } }) });
    // The share of a replica without Redis follows from the last state that it received.
    await until(
      'the replica knows the state of the account',
      async () => (await gateway.metric('patchgate_quota_slots_in_use')) > 0,
    );
    await redis.kill();
    const refused = await gateway.fetch('/api/v1/flow-runs');
    expect([refused.status, await codeOf(refused)]).toEqual([503, 'state_unavailable']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    const waited = await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=10' } });
    expect(waited.status).toBe(200);
    expect(await gateway.metric('patchgate_redis_up')).toBe(0);
    expect(await gateway.metric('patchgate_redis_fallback_active')).toBe(1);
    expect((await fetch(`${gateway.adminUrl}/readyz`)).status).toBe(200);
    await redis.start();
    await until('it is back', async () => (await gateway.metric('patchgate_redis_up')) === 1);
    const back = await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=10' } });
    expect(back.status).toBe(200);
    expect(await gateway.metric('patchgate_redis_fallback_active')).toBe(0);
    expect(gateway.logText()).toContain('this replica works on its share of the ceiling');
  });

  test('with onOutage closed answers 503 until Redis is back', async () => {
    await using redis = await redisServer();
    const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url, onOutage: 'closed' } });
    await using gateway = await run({ config });
    redis.stop();
    await until('it has noticed', async () => (await gateway.fetch('/api/v1/flow-runs')).status === 503);
    const before = gateway.simulator.stats().arrived;
    const waited = await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=4' } });
    expect(await codeOf(waited)).toBe('state_unavailable');
    expect(gateway.simulator.stats().arrived).toBe(before);
    redis.resume();
    await until('it is back', async () => (await gateway.fetch('/api/v1/flow-runs')).status === 200);
  });

  test('starts without it, refuses, and serves when it is there', async () => {
    await using redis = await redisServer();
    await redis.kill();
    await using gateway = await run({
      cold: true,
      config: (upstream) => configuration(upstream, { redis: { url: redis.url } }),
    });
    expect(await codeOf(await gateway.fetch('/api/v1/flow-runs'))).toBe('state_unavailable');
    await redis.start();
    await until('it serves', async () => (await gateway.fetch('/api/v1/flow-runs')).status === 200);
  });
});

test('a gateway is ready when slots can be given out, and then the first request waits for the upstream alone', async () => {
  await using redis = await redisServer();
  redis.stop();
  await using gateway = await run({
    cold: true,
    config: (upstream) => configuration(upstream, { redis: { url: redis.url } }),
  });
  const readiness = () => fetch(`${gateway.adminUrl}/readyz`);
  const early = await readiness();
  expect([early.status, await early.json()]).toEqual([503, { ready: false, reasons: ['redis not joined'] }]);
  redis.resume();
  await until('it is ready', async () => (await readiness()).ok);
  expect((await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=0' } })).status).toBe(200);
});

test('a gateway by Sentinel goes on after a fail-over', async () => {
  await using set = await redisSentinel();
  const redis = { sentinels: set.sentinels, name: set.name };
  await using gateway = await run({ config: (upstream) => configuration(upstream, { redis }) });
  expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  await set.master.kill();
  const isBack = async () => {
    const { status } = await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=5' } });
    return status === 200 && (await gateway.metric('patchgate_redis_up')) === 1;
  };
  await until('back on the replica', isBack, FAIL_OVER_MS);
  const keys = await set.replica.client().keys('patchgate:{main}:*');
  expect(keys).toContain('patchgate:{main}:quota');
}, 90_000);

test('a gateway on a Cluster keeps an account in one slot, and no key lives for ever', async () => {
  await using set = await redisCluster();
  await using gateway = await run({
    config: (upstream) => configuration(upstream, { redis: { cluster: set.addresses } }),
  });
  for (let i = 0; i < 7; i++)
    await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY, Prefer: 'wait=1' } });
  const found = await Promise.all(
    set.nodes.map(async (node) => {
      const client = node.client();
      const keys = await client.keys('*');
      return Promise.all(keys.map(async (key) => [key, await client.pttl(key)] as const));
    }),
  );
  const keys = found.flat();
  expect(found.filter((each) => each.some(([key]) => key.startsWith('patchgate:{main}:')))).toHaveLength(1);
  for (const [key, ttl] of keys) expect(ttl, key).toBeGreaterThan(0);
}, 60_000);
