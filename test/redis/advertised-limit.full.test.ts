import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TenantQuota } from '../../src/quota/quota-store.ts';
import { QuotaSimulation, type Replica, seededRandom, sendTo, Upstream } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await redisServer();
  redis = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());

const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
let worlds = 0;

/** Three replicas that have been busy for more than a minute, on a limit of 240. */
async function busyReplicas() {
  const account = { limit: 240, ceiling: 235, burst: 60 };
  const world = new QuotaSimulation({ redis, account, tenants: { a: ROOMY }, prefix: `advertised${worlds++}` });
  for (let i = 0; i < 3; i++) await world.join();
  await world.pass(3_000);
  const upstream = new Upstream(240);
  const random = seededRandom(7);
  const latency = () => 5 - Math.log(1 - random()) * 120;
  /** All replicas ask as fast as they are served. */
  const saturate = async (ms: number, askers: readonly Replica[] = world.replicas) => {
    for (let at = 0; at < ms; at += 50) {
      for (const replica of askers)
        for (let i = 0; i < 40; i++) if (!sendTo(upstream, world, latency, await world.ask(replica))) break;
      await world.pass(50);
    }
  };
  await saturate(70_000);
  return { world, upstream, saturate, views: () => world.replicas.map(({ store }) => store.view('main')) };
}

function greatestInAnyMinuteSince(upstream: Upstream, from: number): number {
  const times = upstream.arrivals.filter((at) => at >= from).sort((a, b) => a - b);
  return Math.max(0, ...times.map((to) => times.filter((at) => at > to - 60_000 && at <= to).length));
}

describe('a limit that the upstream has halved under load', () => {
  test('lowers the ceiling of all replicas within a second, and raises it when it is back', async () => {
    const { world, upstream, saturate, views } = await busyReplicas();
    // A new window of the upstream opens first: no request of the old ceiling meets a 429.
    while (upstream.counted > 20) await saturate(50);
    const changedAt = world.clock.monotonic();
    upstream.limit = 120;
    // A single replica sends, and learns of it.
    const [one] = world.replicas as [Replica];
    await saturate(1_000, [one]);
    await world.pass(600);
    for (const view of views()) expect(view).toMatchObject({ limit: 240, advertisedLimit: 120, ceiling: 117 });
    await saturate(125_000);
    // Nothing new is sent until fewer than 117 slots are held; from then on the lowered ceiling is used.
    expect(greatestInAnyMinuteSince(upstream, changedAt + 5_000)).toBeLessThanOrEqual(117);
    const settled = changedAt + 61_600;
    // The minute may begin or end just beside a slot.
    expect(upstream.between(settled, settled + 60_000)).toBeGreaterThanOrEqual(117 * 0.985 - 0.5);
    expect(upstream.throttled).toBe(0);
    upstream.limit = 240;
    await saturate(3_000);
    for (const view of views()) expect(view).toMatchObject({ advertisedLimit: 240, ceiling: 235 });
    await saturate(61_000);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(235);
    expect(upstream.throttled).toBe(0);
  }, 120_000);

  test('is followed by replicas without Redis on their shares, and passed on to a Redis that knows nothing', async () => {
    const { world, upstream, saturate, views } = await busyReplicas();
    for (const replica of world.replicas) replica.connection = 'down';
    await saturate(70_000);
    while (upstream.counted > 20) await saturate(50);
    upstream.limit = 120;
    await saturate(70_000);
    const settled = world.clock.monotonic();
    await saturate(60_000);
    // 3 × 39.
    expect(upstream.between(settled, settled + 60_000)).toBeLessThanOrEqual(117);
    expect(upstream.between(settled, settled + 60_000)).toBeGreaterThanOrEqual(100);
    await redis.flushall();
    for (const replica of world.replicas) replica.connection = 'up';
    await world.pass(4_000);
    for (const view of views()) expect(view).toMatchObject({ advertisedLimit: 120, ceiling: 117 });
    await saturate(70_000);
    expect(greatestInAnyMinuteSince(upstream, settled)).toBeLessThanOrEqual(117);
    expect(upstream.throttled).toBe(0);
  }, 120_000);
});
