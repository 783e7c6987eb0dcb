import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Call,
  type CallName,
  callersOf,
  calls,
  costsConfig,
  countingUpstream,
  firstCall,
} from '../support/costs.ts';
import { eventually } from '../support/gateway.ts';
import { type Folder, folder, patchgate, type Spawned } from '../support/process.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';
import { monitorRedis } from '../support/redis-monitor.ts';

/**
 * Costs of a request, in counts: they are the same on every machine, where times are not. A change that makes a path
 * dearer fails here; one that makes it cheaper should lower the number. docs/benchmarks.md has the times.
 */
const COSTS: Record<CallName, { readonly upstream: number /** Scripts count as one. */; readonly redis: number }> = {
  'a cached hit': { upstream: 0, redis: 0 },
  'a hit that the caller has already (304)': { upstream: 0, redis: 0 },
  'a miss, stored for all replicas': { upstream: 1, redis: 6 },
  'a GET that is passed on': { upstream: 1, redis: 2 },
  'a POST with a body': { upstream: 1, redis: 3 },
  // Its caller gets an appointment.
  'a tenant that has used up its quota': { upstream: 0, redis: 1 },
  // Each counts until its address is blocked, over all replicas; here that never happens.
  'an unknown key': { upstream: 0, redis: 1 },
};

describe('upstream and Redis are asked as often as they have to be', () => {
  let redis: RedisServer;
  let upstream: Awaited<ReturnType<typeof countingUpstream>>;
  let files: Folder;
  let gateway: Spawned;
  let callers: ReturnType<typeof callersOf>;
  beforeAll(async () => {
    redis = await redisServer();
    upstream = await countingUpstream();
    files = await folder({ 'gateway.yaml': JSON.stringify(costsConfig(upstream.url, { redis: { url: redis.url } })) });
    gateway = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    callers = callersOf((await gateway.listening()).traffic);
    await callers.call(1, 1, firstCall);
  });
  afterAll(async () => {
    callers[Symbol.dispose]();
    for (const each of [gateway, files, upstream, redis]) await each[Symbol.asyncDispose]();
  });

  /** For one call of so many: requests upstream, and commands in Redis. */
  async function costsOf(count: number, width: number, next: () => Call) {
    using watch = await watched(redis);
    const before = upstream.requests();
    await callers.call(count, width, next);
    return { upstream: (upstream.requests() - before) / count, redis: (await watch.commands()) / count };
  }

  test.each(Object.entries(COSTS) as [CallName, (typeof COSTS)[CallName]][])('%s', async (name, cost) => {
    await callers.call(10, 1, calls[name]);
    const found = await costsOf(200, 1, calls[name]);
    expect(found.upstream).toBe(cost.upstream);
    // The end of a request goes with the next question, if that comes soon.
    expect(found.redis).toBeGreaterThan(cost.redis - 1.1);
    // Heartbeats and bundles of the guard come by the clock, however many requests there are.
    expect(found.redis).toBeLessThan(cost.redis + 0.5);
  });

  test('those who come together ask Redis together', async () => {
    const passedOn = calls['a GET that is passed on'];
    await callers.call(200, 32, passedOn);
    const found = await costsOf(1_000, 32, passedOn);
    expect(found.upstream).toBe(1);
    // Alone each takes two. How many come in one turn of the event loop is for the machine to say: some ten of 32 here.
    expect(found.redis).toBeLessThan(0.8);
  });
});

/** Commands that reach Redis from now on; what a script does within is one with it. */
async function watched(redis: RedisServer) {
  const monitor = await monitorRedis(redis.port);
  const client = redis.client();
  return {
    /** All that Redis has received before this call. */
    async commands() {
      await client.echo('the end');
      await eventually(() => monitor.lines().some((line) => line.endsWith('"the end"')), 'the last line');
      return monitor.lines().filter((line) => !/^\+[\d.]+ \[\d+ lua\] /.test(line)).length - 1;
    },
    [Symbol.dispose]() {
      monitor[Symbol.dispose]();
      client.disconnect();
    },
  };
}
