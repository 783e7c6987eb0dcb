import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { BILLING_KEY, eventually, READER_KEY, type Running } from '../support/gateway.ts';
import { runReplicas } from '../support/gateway-replicas.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await redisServer();
});
afterAll(() => redis[Symbol.asyncDispose]());

const cacheStatus = (response: Response) => response.headers.get('cache-status') ?? '';
const namesOf = async (response: Response) => {
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${response.status}: ${text}`);
  return (JSON.parse(text) as { data: { name: string }[] }).data.map(({ name }) => name);
};
const LIST = '/api/v1/scripts?per_page=100&sort=-id';

describe('replicas that share a cache', () => {
  test('send one request for 200 concurrent equal GETs', async () => {
    await using world = await runReplicas(redis, 3, {
      simulator: { switches: { responseLatency: { kind: 'fixed', ms: 300 } } },
    });
    const requests = Array.from({ length: 200 }, (_, i) =>
      world.at(i).fetch('/api/v1/flows', { headers: { Authorization: i % 2 === 0 ? BILLING_KEY : READER_KEY } }),
    );
    const responses = await Promise.all(requests);
    const bodies = await Promise.all(responses.map((each) => each.json() as Promise<{ data: unknown }>));
    expect(responses.map(({ status }) => status)).toEqual(Array(200).fill(200));
    expect(world.simulator.arrivals()).toHaveLength(1);
    for (const { data } of bodies) expect(data).toEqual(bodies[0]?.data);
    const count = (pattern: RegExp) => responses.filter((each) => pattern.test(cacheStatus(each))).length;
    // A request that comes after the response finds it stored.
    expect([count(/stored/), count(/collapsed|; hit;/)]).toEqual([1, 199]);
    expect(count(/collapsed/)).toBeGreaterThan(0);
    const counted = await Promise.all(
      world.all.map((each) => each.metric('patchgate_upstream_requests_avoided_total')),
    );
    expect(counted.reduce((sum, each) => sum + each, 0)).toBe(199);
  });

  test('serve a response that another replica fetched, with its age', async () => {
    await using world = await runReplicas(redis, 2);
    const first = await world.at(0).fetch('/api/v1/flows');
    await until('stored in Redis', async () => {
      const keys = await redis.client().keys('*:cache:response:*');
      return (
        keys.length > 0 &&
        (await world.at(0).metric('patchgate_cache_operations_total', { tier: 'redis', outcome: 'store' })) > 0
      );
    });
    const second = await world.at(1).fetch('/api/v1/flows');
    expect(cacheStatus(second)).toMatch(/^patchgate; hit; ttl=(29|30)$/);
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'));
    expect(((await second.json()) as { data: unknown }).data).toEqual(((await first.json()) as { data: unknown }).data);
    expect(world.simulator.arrivals()).toHaveLength(1);
  });

  test('see a write on every other replica once it has its response, each time, also during in-flight fetches', async () => {
    const writes = 250;
    await using world = await runReplicas(redis, 3);
    let missed = 0;
    let reads = 0;
    for (let i = 0; i < writes; i++) {
      const name = `written ${i}`;
      // Readers on all replicas: fetches are in flight when the write is sent and when its response arrives.
      const readers = [0, 1, 2].map((n) =>
        world
          .at(n)
          .fetch(LIST)
          .then((each) => each.arrayBuffer()),
      );
      const written = await world.at(i).fetch('/api/v1/scripts', { method: 'POST', body: JSON.stringify({ name }) });
      expect(written.status).toBe(201);
      const seen = await Promise.all([1, 2, 1, 2].map(async (n) => namesOf(await world.at(i + n).fetch(LIST))));
      for (const names of seen) {
        reads += 1;
        if (!names.includes(name)) missed += 1;
      }
      await Promise.all(readers);
    }
    expect([reads, missed]).toEqual([4 * writes, 0]);
    // Most reads were served from cache.
    const hits = await Promise.all(world.all.map((each) => each.metric('patchgate_upstream_requests_avoided_total')));
    expect(hits.reduce((sum, each) => sum + each, 0)).toBeGreaterThan(writes);
  }, 120_000);

  test('finish a fetch for a caller on another replica when the first caller disconnects', async () => {
    await using world = await runReplicas(redis, 2, {
      simulator: { switches: { responseLatency: { kind: 'fixed', ms: 300 } } },
    });
    const disconnect = startGet(world.at(0), '/api/v1/patchworks/system-templates');
    await eventually(() => world.simulator.arrivals().length === 1, 'the GET upstream');
    const staying = world.at(1).fetch('/api/v1/patchworks/system-templates');
    disconnect();
    const response = await staying;
    expect([response.status, ((await response.json()) as { data: unknown[] }).data.length > 0]).toEqual([200, true]);
  });

  test('store no responses in Redis with cache.shared: false, and still see the writes of each other', async () => {
    await using world = await runReplicas(redis, 2, { more: { cache: { shared: false } } });
    for (const n of [0, 1]) expect(cacheStatus(await world.at(n).fetch(LIST))).toBe('patchgate; fwd=miss; stored');
    await world.at(0).fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"shared write"}' });
    expect(await namesOf(await world.at(1).fetch(LIST))).toContain('shared write');
  });

  test('a purge through one replica takes effect on all', async () => {
    await using world = await runReplicas(redis, 2);
    for (const n of [0, 1]) await (await world.at(n).fetch('/api/v1/flows')).arrayBuffer();
    const purged = await fetch(`${world.at(0).adminUrl}/cache/purge`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"path":"/api/v1/flows/**","account":"main"}',
    });
    expect(purged.status).toBe(200);
    expect(cacheStatus(await world.at(1).fetch('/api/v1/flows'))).toMatch(/fwd=miss/);
    expect(cacheStatus(await world.at(0).fetch('/api/v1/flows'))).toMatch(/hit|collapsed/);
  });
});

/** Without Redis, each replica may use a share of this quota. */
const ACCOUNTS = {
  main: {
    quota: { limit: 2_400, ceiling: 2_350, burst: 2_000 },
    credentials: [{ id: 'primary', apiKey: FAKE_PRIMARY_KEY }],
  },
};

describe('without Redis', () => {
  test('memory serves for maxDisconnectedAge; and nothing invalidated is served when Redis is back', async () => {
    await using server = await redisServer();
    await using world = await runReplicas(server, 2, {
      more: { cache: { maxDisconnectedAge: '1s' }, accounts: ACCOUNTS },
    });
    await (await world.at(0).fetch(LIST)).arrayBuffer();
    await (await world.at(1).fetch(LIST)).arrayBuffer();
    await world.shared();
    await server.kill();
    expect(cacheStatus(await world.at(1).fetch(LIST))).toMatch(/hit/);
    // The other replica does not see this write, for no longer than its lease and `maxDisconnectedAge`.
    const wait = { headers: { Prefer: 'wait=20' } };
    const created = await world.at(0).fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"unseen"}', ...wait });
    expect(created.status).toBe(201);
    const respondedAt = performance.now();
    const connected = async (): Promise<unknown> => {
      const response = await fetch(`${world.at(1).adminUrl}/status`);
      return ((await response.json()) as { cache: { inTouch: { main: boolean } } }).cache.inTouch.main;
    };
    await until('disconnected', async () => (await connected()) === false);
    await until(
      'the other replica sees the write',
      async () => (await namesOf(await world.at(1).fetch(LIST, wait))).includes('unseen'),
      8_000,
    );
    expect(performance.now() - respondedAt).toBeLessThan(8_000);
    await server.start();
    for (const each of world.all) {
      await until('Redis is back', async () => (await each.metric('patchgate_redis_up')) === 1);
    }
    for (let i = 0; i < 10; i++) {
      const name = `after ${i}`;
      const written = await world
        .at(i)
        .fetch('/api/v1/scripts', { method: 'POST', body: JSON.stringify({ name }), ...wait });
      expect(written.status).toBe(201);
      await until('both are connected', async () =>
        (await namesOf(await world.at(i + 1).fetch(LIST, wait))).includes(name),
      );
    }
    expect(cacheStatus(await world.at(0).fetch(LIST, wait))).toMatch(/hit|collapsed|stored/);
  }, 60_000);
});

/** Sends a GET and returns a function that disconnects. */
function startGet(replica: Running, path: string): () => void {
  const sent = request({ host: '127.0.0.1', port: replica.port, path, headers: { Authorization: BILLING_KEY } });
  sent.on('error', () => {});
  sent.end();
  return () => sent.destroy();
}
