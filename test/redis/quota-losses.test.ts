import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryQuotaStore } from '../../src/adapters/memory/quota-store.ts';
import type { Log, Meter } from '../../src/ports.ts';
import { parseAdvertisedLimit } from '../../src/quota/headers.ts';
import type { AccountQuota, TenantQuota } from '../../src/quota/quota-store.ts';
import { Callers, longestPauseMs, type Scene } from '../support/callers.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { QuotaSimulation, Upstream } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

const CEILING = 60;
const LIMIT = 65;
const BURST = 15;
const TENANTS = ['a', 'b'];
const account = (coldStart: 'trust' | 'wait' = 'trust'): AccountQuota => ({
  ...{ limit: LIMIT, ceiling: CEILING, burst: BURST, coldStart },
});
const tenants: Record<string, TenantQuota> = Object.fromEntries(
  TENANTS.map((id) => [id, { rate: CEILING, burst: BURST, weight: 1, reserved: 0, maxWaitMs: 5_000 }]),
);
/** The longest pause that is no standstill. */
const PAUSE_MS = (4 * 60_000) / CEILING;
/** A slot is held so long, and what is not known of a minute lasts so long. */
const MINUTE_MS = 60_100;
const quiet = new Proxy({}, { get: () => () => {} });

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await redisServer();
  redis = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());
let worlds = 0;

function warningsInto(warnings: string[]): Log {
  const note = (_: unknown, text: string) => void warnings.push(text);
  return new Proxy({}, { get: (_, level) => (level === 'warn' ? note : () => {}) }) as Log;
}

interface Opened {
  readonly scene: Scene;
  readonly warnings: readonly string[];
}

const memory = async (quota: AccountQuota): Promise<Opened> => {
  const clock = new ManualClock();
  const warnings: string[] = [];
  const plan = {
    accounts: new Map([['main', quota]]),
    tenants: new Map([['main', new Map(Object.entries(tenants))]]),
  };
  const store = createMemoryQuotaStore({ clock, plan, meter: quiet as Meter, log: warningsInto(warnings) });
  return { scene: { clock, stores: [store], settle: () => new Promise((done) => setImmediate(done)) }, warnings };
};

/** Replicas that have joined a state that began at time 0. */
async function worldOf(replicas: number, quota: AccountQuota, replicaGraceMs = 120_000) {
  const warnings: string[] = [];
  const world = new QuotaSimulation({
    ...{ redis, account: quota, tenants, prefix: `losses${worlds++}`, log: warningsInto(warnings), replicaGraceMs },
  });
  for (let i = 0; i < replicas; i++) await world.join();
  await world.pass(2_600);
  return { world, warnings, scene: sceneOf(world) };
}

function sceneOf(world: QuotaSimulation): Scene {
  const stores = world.replicas.filter(({ alive }) => alive).map(({ store }) => store);
  return { clock: world.clock, stores, settle: () => world.settle() };
}

const kinds: [string, (quota: AccountQuota) => Promise<Opened>][] = [
  ['embedded', memory],
  ['in Redis, of two replicas', (quota) => worldOf(2, quota)],
];

describe.each(kinds)('new state, %s,', (_, open) => {
  test('with coldStart: wait sends one request without limit headers, and nothing more until its first minute is over', async () => {
    const { scene, warnings } = await open(account('wait'));
    const callers = new Callers(scene, { limit: LIMIT, headers: false });
    callers.steadily('a', 100, 0);
    await callers.pass(MINUTE_MS - scene.clock.monotonic() - 100);
    expect(callers.upstream.arrivals).toHaveLength(1);
    expect(warnings).toEqual([expect.stringContaining('upstream sends no X-RateLimit-Remaining: nothing is sent')]);
    await callers.pass(1_000);
    callers.stop();
    expect(callers.upstream.arrivals.length).toBeGreaterThan(4);
  });

  test('with coldStart: trust admits a burst after the first response without limit headers, and says what that means', async () => {
    const { scene, warnings } = await open(account('trust'));
    const callers = new Callers(scene, { limit: LIMIT, headers: false });
    callers.burst('a', BURST, 5_000);
    await callers.pass(1_000);
    expect(callers.upstream.arrivals).toHaveLength(BURST);
    expect(new Set(warnings)).toEqual(
      new Set([expect.stringContaining('upstream sends no X-RateLimit-Remaining: the ceiling is guaranteed from')]),
    );
  });

  test.each(['trust', 'wait'] as const)(
    'with coldStart: %s needs neither where the limit headers show the minute before',
    async (coldStart) => {
      const { scene, warnings } = await open(account(coldStart));
      const callers = new Callers(scene, { limit: LIMIT });
      callers.burst('a', BURST, 5_000);
      await callers.pass(1_000);
      expect(callers.upstream.arrivals).toHaveLength(BURST);
      expect(warnings).toEqual([]);
    },
  );
});

/** More is wanted than there is, by callers that wait and callers that come back: at each of so many gateways. */
function greedily(callers: Callers, gateways = 1): void {
  callers.openLoop('a', (CEILING * 1.5) / gateways);
  callers.closedLoop('b', 24 / gateways);
}

test('a server that was a replica for a while has another state, though process and memory are the same', async () => {
  const { world } = await worldOf(2, account());
  const stateId = () => redis.hget(`losses${worlds - 1}:{main}:quota`, 'stateId');
  const reconnect = async (meanwhile: () => Promise<unknown>) => {
    for (const replica of world.replicas) replica.connection = 'down';
    await world.pass(1_000);
    await meanwhile();
    for (const replica of world.replicas) replica.connection = 'up';
    await world.pass(3_000);
  };
  const before = await stateId();
  await reconnect(async () => {});
  expect(await stateId()).toBe(before);
  await reconnect(async () => {
    await redis.replicaof('127.0.0.1', 1);
    await redis.replicaof('NO', 'ONE');
  });
  expect(await stateId()).not.toBe(before);
});

test('a replica on an empty Redis can admit when the others have had time to come, and then the first request waits for nothing', async () => {
  const world = new QuotaSimulation({ redis, account: account(), tenants, prefix: `losses${worlds++}` });
  const replica = await world.join();
  await world.pass(1_500);
  expect(replica.store.state().canAdmit).toBe(false);
  expect(await world.ask(replica)).toMatchObject({ kind: 'rejected' });
  for (let ms = 0; !replica.store.state().canAdmit && ms < 1_000; ms += 50) await world.pass(50);
  expect(await world.ask(replica)).toMatchObject({ kind: 'admitted' });
});

interface BusyOptions {
  readonly quota?: AccountQuota;
  readonly headers?: boolean;
  readonly graceMs?: number;
}

/** Greedy callers of three replicas, for so long. */
async function busy(forMs: number, { quota = account(), headers = true, graceMs }: BusyOptions = {}) {
  const { world } = await worldOf(3, quota, graceMs);
  const upstream = new Upstream(LIMIT);
  const callersOf = (scene: Scene, seed: number) => {
    const callers = new Callers(scene, { limit: LIMIT, upstream, headers, seed });
    greedily(callers, scene.stores.length === 1 ? 3 : 1);
    return callers;
  };
  const scene = sceneOf(world);
  // A killed replica takes its callers with it.
  const all = scene.stores.map((store, seed) => callersOf({ ...scene, stores: [store] }, seed));
  const pass = async (ms: number) => all[0]?.pass(ms);
  await pass(forMs);
  const admissions = (from: number, of = all) =>
    of.flatMap((callers) => callers.admissions.filter((at) => at >= from)).sort((a, b) => a - b);
  return {
    ...{ world, upstream, all, pass, admissions },
    crash(count: number): void {
      for (const callers of all.slice(0, count)) callers.crash();
      for (const replica of world.replicas.slice(0, count)) replica.crash();
    },
    /** The replicas are started again, under their names. */
    async restart() {
      for (const name of ['r1', 'r2', 'r3']) await world.join(name);
      return callersOf(sceneOf(world), 9);
    },
  };
}

describe('state that is lost together with all replicas', () => {
  test.each(['an empty Redis', 'an old snapshot'])(
    'is learned from the response to a request that is alone in flight, from %s',
    async (what) => {
      const { world, upstream, pass, crash, restart } = await busy(80_000);
      const saved = await world.dump();
      await pass(15_000);
      crash(3);
      await pass(1_000);
      if (what === 'an old snapshot') await world.restore(saved);
      else await redis.flushall();
      const counted = upstream.counted;
      const lostAt = world.clock.monotonic();
      const callers = await restart();
      while (upstream.counted === counted) await callers.pass(10);
      await callers.pass(1_100);
      expect(world.replicas.at(-1)?.store.view('main').externalUsage).toBe(counted);
      await callers.pass(90_000);
      callers.stop();
      expect(upstream.greatestInWindow).toBeLessThanOrEqual(CEILING);
      expect(upstream.throttled).toBe(0);
      // At first the pace is what the upstream's window had left, for as long as that may last.
      const { admissions } = callers;
      expect((admissions[0] as number) - lostAt).toBeLessThanOrEqual(2_500 + PAUSE_MS);
      expect(longestPauseMs(admissions)).toBeLessThanOrEqual((4 * 60_000) / (CEILING - counted));
      expect(longestPauseMs(admissions.filter((at) => at > lostAt + 60_000))).toBeLessThanOrEqual(PAUSE_MS);
    },
  );

  test('with coldStart: wait exceeds the ceiling in no minute without limit headers, but for the one request that asks', async () => {
    const { upstream, crash, restart } = await busy(70_000, { quota: account('wait'), headers: false });
    crash(3);
    await redis.flushall();
    const callers = await restart();
    await callers.pass(90_000);
    callers.stop();
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING + 1);
  });
});

test('slots of a killed replica stay held when Redis loses its memory twice, though another process has its name', async () => {
  const { world, upstream, all, pass, crash, admissions } = await busy(70_000, { headers: false });
  crash(1);
  await redis.flushall();
  await world.join('r1');
  await pass(20_000);
  await redis.flushall();
  const lostAt = world.clock.monotonic();
  await pass(80_000);
  for (const callers of all) callers.stop();
  expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  expect(longestPauseMs(admissions(lostAt, all.slice(1)))).toBeLessThanOrEqual(2_500 + PAUSE_MS);
});

test('slots that replicas report without hearing the replies are held for their time, though the clock of Redis goes back and forth', async () => {
  const { world, upstream, all, pass } = await busy(70_000, { headers: false });
  for (const replica of world.replicas) replica.connection = 'mute';
  for (let steps = 0; steps < 20; steps++) {
    world.stepMs -= 3_600_000;
    await pass(700);
  }
  await pass(40_000);
  world.stepMs += 24 * 3_600_000;
  for (const replica of world.replicas) replica.connection = 'up';
  await pass(70_000);
  for (const callers of all) callers.stop();
  expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
});

describe('pacing goes on', () => {
  test.each([
    ['', null],
    [', if Redis fails over at the same moment', 'fails over'],
    [', if Redis loses its memory at the same moment', 'is emptied'],
    [', if Redis is killed at the same moment, and comes back empty a second later', 'comes back empty'],
    [', if it is back at once under its name, and Redis is empty', 'is back'],
  ])('while the share of a killed replica is reserved, and when its grace ends%s', async (_, what) => {
    const { world, upstream, all, pass, crash, admissions } = await busy(130_000, { graceMs: 70_000 });
    const killedAt = world.clock.monotonic();
    const saved = await world.dump();
    await pass(1_000);
    crash(1);
    const outageMs = what === null || what === 'is emptied' ? 0 : 1_000;
    if (outageMs > 0) for (const replica of world.replicas) replica.connection = 'down';
    await pass(outageMs);
    if (what === 'fails over') await world.restore(saved);
    else if (what !== null) await redis.flushall();
    if (outageMs > 0) for (const replica of world.replicas) replica.connection = 'up';
    // It knows nothing of what it held before.
    if (what === 'is back') await world.join('r1');
    await pass(150_000);
    for (const callers of all) callers.stop();
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
    const living = admissions(killedAt, all.slice(1));
    // A new state waits 2 s for the replicas.
    const closedMs = what === null ? 0 : outageMs + 2_500;
    expect(longestPauseMs(living)).toBeLessThanOrEqual(closedMs + (what === null ? 1 : 1.5) * PAUSE_MS);
    // Then slots that the killed one may have been given are held at once, and not as they would have been used.
    const reopened = living.filter((at) => at > killedAt + 1_000 + closedMs);
    expect(longestPauseMs(reopened)).toBeLessThanOrEqual(what === null ? PAUSE_MS : 1.5 * PAUSE_MS);
    expect(longestPauseMs(living.filter((at) => at > killedAt + 75_000))).toBeLessThanOrEqual(PAUSE_MS);
    expect(living.filter((at) => at > killedAt + 90_000).length).toBeGreaterThanOrEqual(CEILING * 0.95);
  });

  test('when the wall clocks of Redis and of a gateway step', async () => {
    const { world, upstream, all, pass, admissions } = await busy(65_000);
    const from = world.clock.monotonic();
    for (const stepMs of [3_600_000, -3_600_000, -3_600_000, 3_600_000, 90, -90]) {
      world.stepMs += stepMs;
      world.clock.stepWall(-stepMs);
      await pass(8_000);
    }
    for (const callers of all) callers.stop();
    expect(longestPauseMs(admissions(from))).toBeLessThanOrEqual(PAUSE_MS);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  });

  test.each([
    ['trust', 'with an old snapshot', 1_000],
    ['trust', 'empty', 8_000],
    ['wait', 'empty', 1_000],
  ] as const)('with coldStart: %s when Redis is restarted %s after %i ms', async (coldStart, what, outageMs) => {
    const headers = coldStart === 'trust';
    const { world, upstream, all, pass, admissions } = await busy(60_000, { quota: account(coldStart), headers });
    const saved = await world.dump();
    await pass(10_000);
    const from = world.clock.monotonic();
    for (const replica of world.replicas) replica.connection = 'down';
    await pass(outageMs);
    if (what === 'empty') await redis.flushall();
    else await world.restore(saved);
    for (const replica of world.replicas) replica.connection = 'up';
    await pass(70_000);
    for (const callers of all) callers.stop();
    expect(longestPauseMs(admissions(from))).toBeLessThanOrEqual(outageMs + PAUSE_MS);
    expect(longestPauseMs(admissions(from + outageMs + PAUSE_MS))).toBeLessThanOrEqual(PAUSE_MS);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  });

  test.each<[string, string[]]>([
    ['absent', []],
    ['no numbers', ['X-RateLimit-Limit', 'many', 'X-RateLimit-Remaining', 'few']],
    ['negative', ['X-RateLimit-Limit', '-65', 'X-RateLimit-Remaining', '-1']],
    ['of another counter, which is not to be followed', ['X-RateLimit-Limit', '10', 'X-RateLimit-Remaining', '0']],
    ['of an unreadable counter', ['X-RateLimit-Limit', '6e1', 'X-RateLimit-Remaining', '0']],
    ['more than there can be', ['X-RateLimit-Limit', String(LIMIT), 'X-RateLimit-Remaining', String(LIMIT + 1)]],
  ])('when the limit headers of the upstream are %s', async (_, headers) => {
    const { scene } = await memory({ ...account(), adoptLimit: false });
    const onInvalid = () => {};
    const tells = () => parseAdvertisedLimit({ status: 200, headers, now: scene.clock.now(), onInvalid });
    const callers = new Callers(scene, { limit: LIMIT, tells });
    greedily(callers);
    await callers.pass(61_000);
    callers.forget();
    await callers.pass(120_000);
    callers.stop();
    expect(callers.longestPauseMs()).toBeLessThanOrEqual(PAUSE_MS);
    expect(callers.admissions.length / 2).toBeGreaterThanOrEqual(CEILING * 0.985);
    expect(callers.upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  });
});
