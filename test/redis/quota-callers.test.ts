import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryQuotaStore } from '../../src/adapters/memory/quota-store.ts';
import type { Log, Meter } from '../../src/ports.ts';
import type { AccountQuota, QuotaStore, TenantQuota } from '../../src/quota/quota-store.ts';
import { Callers, longestPauseMs, type Scene } from '../support/callers.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { QuotaSimulation, Upstream } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const accountOf = (ceiling: number, burst = Math.floor(ceiling / 4)): AccountQuota => ({
  limit: ceiling + 5,
  ceiling,
  burst,
});
/** With the quota of a tenant that is not configured. */
const tenantsOf = (ids: readonly string[], { ceiling, burst }: AccountQuota): Record<string, TenantQuota> =>
  Object.fromEntries(ids.map((id) => [id, { rate: ceiling, burst, weight: 1, reserved: 0, maxWaitMs: 5_000 }]));

/** Decisions in Redis take real time, and the scripts decide as the model in memory does (quota-scripts.test.ts). */
const everything = process.env['EFFORT'] === 'full';

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());
let runs = 0;

const memory = async (account: AccountQuota, tenants: readonly string[]): Promise<Scene> => {
  const clock = new ManualClock();
  const all = new Map(Object.entries(tenantsOf(tenants, account)));
  const plan = { accounts: new Map([['main', account]]), tenants: new Map([['main', all]]) };
  const store = createMemoryQuotaStore({ clock, plan, meter: quiet as Meter, log: quiet as Log });
  return { clock, stores: [store], settle: () => new Promise((resolve) => setImmediate(resolve)) };
};

async function worldOf(account: AccountQuota, tenants: readonly string[], replicas: number) {
  const world = new QuotaSimulation({
    ...{ redis: server.client(), account, tenants: tenantsOf(tenants, account), prefix: `callers${runs++}` },
  });
  const stores: QuotaStore[] = [];
  for (let i = 0; i < replicas; i++) stores.push((await world.join()).store);
  // An empty Redis waits for the others.
  await world.pass(2_600);
  return { world, scene: { clock: world.clock, stores, settle: () => world.settle() } };
}

const kinds: [string, (account: AccountQuota, tenants: readonly string[]) => Promise<Scene>, number][] = [
  ['in memory', memory, 1_200],
  ['in Redis, of two replicas', async (account, tenants) => (await worldOf(account, tenants, 2)).scene, 470],
];

/** Slot intervals of the ceiling. */
const intervals = (ms: number, ceiling: number): number => (ms * ceiling) / 60_000;
const LONGEST = 4;
const USE = 0.985;

describe.each(kinds)('an account %s', { timeout: 120_000 }, (where, open, slots) => {
  const GREEDY = ['waits', 'waits too', 'is now or never', 'is now or never too', 'comes back', 'comes back too'];
  /** Six tenants that want more than all there is, of these kinds. */
  const greedily = (callers: Callers, ceiling: number, kind: (tenant: string) => string = (tenant) => tenant): void => {
    // Each decision of Redis takes a moment of real time.
    const perMinute = ceiling * (where === 'in memory' ? 1.7 : 0.5);
    for (const tenant of GREEDY) {
      if (kind(tenant).startsWith('waits')) callers.openLoop(tenant, perMinute, 5_000);
      else if (kind(tenant).startsWith('is now')) callers.openLoop(tenant, perMinute, 0);
      else callers.closedLoop(tenant, 10);
    }
  };

  const mixes: [string, (tenant: string) => string][] = [
    ['that wait, that do not, and that come back at Retry-After', (tenant) => tenant],
    ...(where === 'in memory'
      ? ([
          ['that wait', () => 'waits'],
          ['that do not wait', () => 'is now or never'],
          ['that come back at Retry-After', () => 'comes back'],
        ] satisfies [string, () => string][])
      : []),
  ];
  const ceilings = everything || where === 'in memory' ? [235, 60] : [60];
  const cases = mixes.flatMap(([what, kind]) => ceilings.map((ceiling) => [ceiling, what, kind] as const));

  test.each(cases)(
    'of ceiling %i is used up without a standstill, and fair to who asks for little, whatever is asked by greedy tenants %s',
    async (ceiling, _, kind) => {
      const account = accountOf(ceiling);
      const callers = new Callers(await open(account, [...GREEDY, 'modest']), account);
      greedily(callers, ceiling, kind);
      // Long enough that one slot is less than the part that may stay unused.
      const minutes = Math.round(slots / ceiling);
      const share = ceiling / (GREEDY.length + 1);
      callers.steadily('modest', 60_000 / (share * 0.6));
      await callers.pass(61_000);
      callers.forget();
      await callers.pass(minutes * 60_000);
      callers.stop();
      const modest = callers.seenBy('modest');
      expect(callers.admissions.length / minutes).toBeGreaterThanOrEqual(ceiling * USE);
      expect(intervals(callers.longestPauseMs(), ceiling)).toBeLessThanOrEqual(LONGEST);
      expect(modest.served).toBeGreaterThan(0);
      expect(modest.refused).toBe(0);
      expect(intervals(modest.waitedMs(0.95), ceiling)).toBeLessThanOrEqual(LONGEST);
      expect(callers.upstream.greatestInAnyMinute()).toBeLessThanOrEqual(ceiling);
      expect(callers.upstream.throttled).toBe(0);
    },
  );

  const bursts: [number, number][] = [
    [60, 30],
    [235, 20],
    [235, 60],
    [235, 117],
  ];
  test.each(everything || where === 'in memory' ? bursts : bursts.slice(0, 1))(
    'of ceiling %i admits %i at once after an idle minute',
    async (ceiling, burst) => {
      const account = accountOf(ceiling, burst);
      const callers = new Callers(await open(account, [...GREEDY, 'late']), account);
      for (const tenant of GREEDY.slice(0, 2)) callers.closedLoop(tenant, 10);
      await callers.pass(70_000);
      callers.stop();
      await callers.pass(65_000);
      callers.forget();
      callers.burst('late', burst);
      await callers.pass(1);
      const late = callers.seenBy('late');
      expect([late.served, late.refused]).toEqual([burst, 0]);
    },
  );

  /** Callers of each tenant; and how often a minute another tenant asks, for less than its share. */
  const crowds: [string, readonly number[], number][] = [
    ...[80, 160, 640].map((count): [string, number[], number] => [`${count} callers of one tenant`, [count], 0]),
    ...[20, 40, 160].map((count): [string, number[], number] => [
      `${count} callers of each of four`,
      Array(4).fill(count),
      0,
    ]),
    ['100, 30 and 3 callers, beside a modest tenant', [100, 30, 3], 20],
    ['80 callers, beside a tenant that asks every second', [80], 60],
  ];
  const inRedis = everything ? [0, 4, 6] : [0];
  test.each(crowds.filter((_, i) => where === 'in memory' || inRedis.includes(i)))(
    'can be trusted when it tells callers when to come back: %s',
    async (_, tenants, modestly) => {
      // Each caller is served some three times.
      const account = accountOf(235, 60);
      const ids = tenants.map((__, i) => `t${i}`);
      const callers = new Callers(await open(account, [...ids, 'modest']), account);
      for (const [i, count] of tenants.entries()) callers.closedLoop(`t${i}`, count);
      if (modestly > 0) callers.steadily('modest', 60_000 / modestly);
      const roundMs = (tenants.reduce((sum, count) => sum + count, 0) / 235) * 60_000;
      await callers.pass(61_000 + roundMs);
      callers.forget();
      await callers.pass(Math.max(120_000, roundMs));
      callers.stop();
      for (const id of ids) {
        const seen = callers.seenBy(id);
        expect(seen.bySecondAttempt).toBeGreaterThanOrEqual(0.9);
        expect(seen.refused / seen.served).toBeLessThanOrEqual(1.2);
      }
      expect(callers.seenBy('modest').refused).toBe(0);
      expect(callers.admissions.length).toBeGreaterThan(0);
      expect(callers.upstream.greatestInAnyMinute()).toBeLessThanOrEqual(235);
    },
  );

  test('does not stand still when a cooldown has ended', async () => {
    const account = accountOf(235);
    const callers = new Callers(await open(account, GREEDY), account);
    greedily(callers, 235);
    await callers.pass(90_000);
    callers.upstream.throttle(20_000);
    await callers.pass(21_000);
    callers.forget();
    await callers.pass(70_000);
    callers.stop();
    expect(intervals(callers.longestPauseMs(), 235)).toBeLessThanOrEqual(LONGEST);
    expect(callers.upstream.greatestInAnyMinute()).toBeLessThanOrEqual(235);
  });

  test.each([
    ['with', 60, true],
    ['without', 60, false],
    ['with', 5, true],
    ['without', 5, false],
  ])(
    'refuses none of 20 requests that come together after a cold start, %s limit headers, burst %i',
    async (_, burst, headers) => {
      const account = accountOf(235, burst);
      const callers = new Callers(await open(account, ['a', 'b']), { ...account, headers });
      for (const tenant of ['a', 'b']) callers.burst(tenant, 10, 5_000);
      await callers.pass(5_000);
      for (const tenant of ['a', 'b']) expect(callers.seenBy(tenant)).toMatchObject({ served: 10, refused: 0 });
    },
  );
});

describe('callers of three replicas', { timeout: 120_000 }, () => {
  const CEILING = 235;
  const start = async () => {
    const account = accountOf(CEILING);
    const tenants = ['a', 'b'];
    const { world, scene } = await worldOf(account, tenants, 3);
    const upstream = new Upstream(account.limit);
    const ofReplicas = scene.stores.map(
      (store, seed) => new Callers({ ...scene, stores: [store] }, { ...account, seed, upstream }),
    );
    const pass = async (ms: number) => ofReplicas[0]?.pass(ms);
    return { world, upstream, ofReplicas, pass, tenants };
  };

  test('meet no standstill while the share of a replica is reserved that was killed', async () => {
    const { world, upstream, ofReplicas, pass, tenants } = await start();
    const living = ofReplicas.slice(1);
    for (const callers of living) for (const tenant of tenants) callers.closedLoop(tenant, 20);
    await pass(61_000);
    world.replicas[0]?.crash();
    for (const callers of living) callers.forget();
    await pass(100_000);
    for (const callers of living) callers.stop();
    const admissions = living.flatMap((callers) => callers.admissions).sort((a, b) => a - b);
    expect(intervals(longestPauseMs(admissions), CEILING)).toBeLessThanOrEqual(LONGEST);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  });

  test('meet no standstill at any of them while Redis is away, and none when it is back', async () => {
    const { world, upstream, ofReplicas, pass, tenants } = await start();
    for (const callers of ofReplicas) for (const tenant of tenants) callers.openLoop(tenant, CEILING / 2);
    await pass(61_000);
    for (const replica of world.replicas) replica.connection = 'down';
    // At first each leaves to the others what they may have been given.
    await pass(20_000);
    for (const callers of ofReplicas) callers.forget();
    await pass(90_000);
    const share = Math.floor(CEILING / 3);
    for (const callers of ofReplicas) {
      expect(callers.admissions.length).toBeGreaterThan(share);
      expect(intervals(callers.longestPauseMs(), share)).toBeLessThanOrEqual(LONGEST);
    }
    for (const replica of world.replicas) replica.connection = 'up';
    await pass(3_000);
    for (const callers of ofReplicas) callers.forget();
    await pass(60_000);
    for (const callers of ofReplicas) callers.stop();
    const admissions = ofReplicas.flatMap((callers) => callers.admissions).sort((a, b) => a - b);
    expect(intervals(longestPauseMs(admissions), CEILING)).toBeLessThanOrEqual(LONGEST);
    expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(CEILING);
  });
});
