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
  test('ask upstream once for 200 equal GETs at the same time', async () => {
    await using world = await runReplicas(redis, 3, {
      simulator: { switches: { answerLatency: { kind: 'fixed', ms: 300 } } },
    });
    const asked = Array.from({ length: 200 }, (_, i) =>
      world.at(i).fetch('/api/v1/flows', { headers: { Authorization: i % 2 === 0 ? BILLING_KEY : READER_KEY } }),
    );
    const answers = await Promise.all(asked);
    const bodies = await Promise.all(answers.map((each) => each.json() as Promise<{ data: unknown }>));
    expect(answers.map(({ status }) => status)).toEqual(Array(200).fill(200));
    expect(world.simulator.arrivals()).toHaveLength(1);
    for (const { data } of bodies) expect(data).toEqual(bodies[0]?.data);
    const told = (pattern: RegExp) => answers.filter((each) => pattern.test(cacheStatus(each))).length;
    // Who comes when it has landed finds it stored.
    expect([told(/stored/), told(/collapsed|; hit;/)]).toEqual([1, 199]);
    expect(told(/collapsed/)).toBeGreaterThan(0);
    const counted = await Promise.all(
      world.all.map((each) => each.metric('patchgate_upstream_requests_avoided_total')),
    );
    expect(counted.reduce((sum, each) => sum + each, 0)).toBe(199);
  });

  test('answer from what another has fetched, with its age', async () => {
    await using world = await runReplicas(redis, 2);
    const first = await world.at(0).fetch('/api/v1/flows');
    await until('it is in Redis', async () => {
      const keys = await redis.client().keys('*:cache:a:*');
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

  test('see a write on every other replica once it is answered, 1,000 times of 1,000, also during flights', async () => {
    await using world = await runReplicas(redis, 3);
    let missed = 0;
    let reads = 0;
    for (let i = 0; i < 250; i++) {
      const name = `written ${i}`;
      // Readers everywhere, all the time: flights are under way when the write is made and when it is answered.
      const noise = [0, 1, 2].map((n) =>
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
      await Promise.all(noise);
    }
    expect([reads, missed]).toEqual([1_000, 0]);
    // It was a cache that was read from.
    const hits = await Promise.all(world.all.map((each) => each.metric('patchgate_upstream_requests_avoided_total')));
    expect(hits.reduce((sum, each) => sum + each, 0)).toBeGreaterThan(250);
  }, 120_000);

  test('fetch for a caller on another replica what its first caller has left', async () => {
    await using world = await runReplicas(redis, 2, {
      simulator: { switches: { answerLatency: { kind: 'fixed', ms: 300 } } },
    });
    const leaving = leave(world.at(0), '/api/v1/systems');
    await eventually(() => world.simulator.arrivals().length === 1, 'the GET upstream');
    const staying = world.at(1).fetch('/api/v1/systems');
    leaving();
    const answer = await staying;
    expect([answer.status, ((await answer.json()) as { data: unknown[] }).data.length > 0]).toEqual([200, true]);
  });

  test('keep no answers in Redis where that is not wanted, and hear of writes all the same', async () => {
    await using world = await runReplicas(redis, 2, { more: { cache: { shared: false } } });
    for (const n of [0, 1]) expect(cacheStatus(await world.at(n).fetch(LIST))).toBe('patchgate; fwd=miss; stored');
    await world.at(0).fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"heard of"}' });
    expect(await namesOf(await world.at(1).fetch(LIST))).toContain('heard of');
  });

  test('a purge of one replica empties all', async () => {
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

/** What a replica alone may send is a share of this. */
const ORDINARY = {
  main: {
    quota: { limit: 2_400, ceiling: 2_350, burst: 2_000 },
    credentials: [{ id: 'primary', apiKey: FAKE_PRIMARY_KEY }],
  },
};

describe('when Redis goes', () => {
  test('memory alone goes on, for as long as is stated; and nothing old is served when it is back', async () => {
    await using own = await redisServer();
    await using world = await runReplicas(own, 2, {
      more: { cache: { maxDisconnectedAge: '1s' }, accounts: ORDINARY },
    });
    await (await world.at(0).fetch(LIST)).arrayBuffer();
    await (await world.at(1).fetch(LIST)).arrayBuffer();
    await world.shared();
    await own.kill();
    expect(cacheStatus(await world.at(1).fetch(LIST))).toMatch(/hit/);
    // A write through one of them is not heard of by the other, but no longer than its lease and `maxDisconnectedAge`.
    const wait = { headers: { Prefer: 'wait=20' } };
    const made = await world.at(0).fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"unheard of"}', ...wait });
    expect(made.status).toBe(201);
    const answeredAt = performance.now();
    const inTouch = async (): Promise<unknown> => {
      const answer = await fetch(`${world.at(1).adminUrl}/status`);
      return ((await answer.json()) as { cache: { inTouch: { main: boolean } } }).cache.inTouch.main;
    };
    await until('it says that it hears nothing', async () => (await inTouch()) === false);
    await until(
      'the other sees it',
      async () => (await namesOf(await world.at(1).fetch(LIST, wait))).includes('unheard of'),
      8_000,
    );
    expect(performance.now() - answeredAt).toBeLessThan(8_000);
    await own.start();
    for (const each of world.all) {
      await until('it is back', async () => (await each.metric('patchgate_redis_up')) === 1);
    }
    for (let i = 0; i < 10; i++) {
      const name = `after ${i}`;
      const written = await world
        .at(i)
        .fetch('/api/v1/scripts', { method: 'POST', body: JSON.stringify({ name }), ...wait });
      expect(written.status).toBe(201);
      await until('both are in touch', async () =>
        (await namesOf(await world.at(i + 1).fetch(LIST, wait))).includes(name),
      );
    }
    expect(cacheStatus(await world.at(0).fetch(LIST, wait))).toMatch(/hit|collapsed|stored/);
  }, 60_000);
});

/** Sends a GET and returns how to hang up. */
function leave(replica: Running, path: string): () => void {
  const sent = request({ host: '127.0.0.1', port: replica.port, path, headers: { Authorization: BILLING_KEY } });
  sent.on('error', () => {});
  sent.end();
  return () => sent.destroy();
}
