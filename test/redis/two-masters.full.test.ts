import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QuotaSimulation, seededRandom, sendTo, Upstream } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

// A partition that parts a gateway and the old master from the rest: its Sentinels, if it reaches any, do not know of the new
// master, and the old one goes on serving it.

let servers: RedisServer[];
let [old, next]: [Redis, Redis] = [] as never;
beforeAll(async () => {
  servers = await Promise.all([redisServer(), redisServer()]);
  [old, next] = servers.map((server) => server.client()) as [Redis, Redis];
});
afterAll(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
});

const CEILING = 235;
const LIMIT = 240;
const TENANT = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
const GRACE_MS = 70_000;
let worlds = 0;

/** Three gateways that want all they can get, for long enough to use all of the ceiling. */
async function busy(headers: boolean) {
  const prefix = `masters${worlds++}`;
  const account = { limit: LIMIT, ceiling: CEILING, burst: 60 };
  const world = new QuotaSimulation({ redis: old, account, tenants: { a: TENANT }, prefix, replicaGraceMs: GRACE_MS });
  for (let i = 0; i < 3; i++) await world.join();
  await world.pass(3_000);
  const upstream = new Upstream(headers ? LIMIT : Number.POSITIVE_INFINITY);
  const random = seededRandom(worlds);
  const latency = () => 5 - Math.log(1 - random()) * 120;
  const pass = async (ms: number): Promise<void> => {
    for (let at = 0; at < ms; at += 50) {
      for (const replica of world.replicas) {
        for (let i = 0; i < 40; i++) if (!sendTo(upstream, world, latency, await world.ask(replica))) break;
      }
      await world.pass(50);
    }
  };
  await pass(70_000);
  return { world, upstream, pass };
}

describe('two masters at once', { timeout: 120_000 }, () => {
  test.each([
    ['empty', false],
    ['a copy of the old one', true],
  ])(
    'keep the ceiling together until redis.replicaGrace is over, and when they are one again: the new one is %s',
    async (_, isCopy) => {
      const { world, upstream, pass } = await busy(false);
      if (isCopy) for (const [key, value] of await world.dump()) if (value !== null) await next.restore(key, 0, value);
      const [parted, ...others] = world.replicas;
      for (const replica of others) replica.moveTo(next);
      await pass(GRACE_MS - 5_000);
      const share = upstream.between(world.clock.monotonic() - 60_000, world.clock.monotonic());
      expect(share).toBeGreaterThanOrEqual(CEILING * 0.8);
      parted?.moveTo(next);
      await pass(70_000);
      expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
    },
  );

  test('give out two ceilings when it is over, and the upstream sends no limit headers', async () => {
    const { world, upstream, pass } = await busy(false);
    for (const replica of world.replicas.slice(1)) replica.moveTo(next);
    await pass(GRACE_MS + 65_000);
    expect(upstream.greatestInAnyMinute()).toBeGreaterThan(CEILING * 1.9);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING * 2);
  });

  test('give out no more than the upstream has left where its limit headers say so', async () => {
    const { world, upstream, pass } = await busy(true);
    for (const replica of world.replicas.slice(1)) replica.moveTo(next);
    await pass(GRACE_MS + 65_000);
    expect(upstream.greatestInWindow).toBeLessThanOrEqual(LIMIT);
    expect(upstream.throttled).toBe(0);
    expect(upstream.between(world.clock.monotonic() - 60_000, world.clock.monotonic())).toBeGreaterThan(CEILING * 0.6);
  });

  test('with min-replicas-to-write the old one refuses, and its gateway has its share and no more', async () => {
    const { world, upstream, pass } = await busy(false);
    await old.config('SET', 'min-replicas-to-write', 1);
    try {
      const [parted, ...others] = world.replicas;
      for (const replica of others) replica.moveTo(next);
      await pass(GRACE_MS - 5_000);
      expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
      expect(parted?.store.state().fallback).toBe(true);
      await pass(70_000);
      expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING + Math.floor(CEILING / 3));
    } finally {
      await old.config('SET', 'min-replicas-to-write', 0);
    }
  });
});
