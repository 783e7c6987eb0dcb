import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryQuotaStore } from '../../src/adapters/memory/quota-store.ts';
import type { Log, Meter } from '../../src/ports.ts';
import type { Budget } from '../../src/quota/budgets.ts';
import type {
  AccountQuota,
  AdvertisedLimit,
  Decision,
  QuotaPlan,
  QuotaStore,
  TenantQuota,
} from '../../src/quota/quota-store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { QuotaSimulation, type Replica } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
const PLENTY: AccountQuota = { limit: 2_000_000, ceiling: 1_000_000, burst: 10_000 };
const STARTS: Budget = { match: [], limit: 40, per: 'month', timeZone: 'UTC', warnAtPercent: 80 };
const starts = (more: Partial<Budget> = {}): AccountQuota => ({
  ...PLENTY,
  budgets: new Map([['starts', { ...STARTS, ...more }]]),
});
const FULL: AdvertisedLimit = { limit: PLENTY.limit, remaining: PLENTY.limit - 1, throttled: null };
/** A tenant with a part of the budget. */
const part = (limit: number): TenantQuota => ({ ...ROOMY, budgets: new Map([['starts', limit]]) });

interface Course {
  readonly clock: ManualClock;
  readonly store: QuotaStore;
  pass(ms: number): Promise<void>;
  configure(account: AccountQuota, tenants?: Record<string, TenantQuota>): void;
}

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());
let runs = 0;

const kinds: Record<string, (account: AccountQuota, tenants: Record<string, TenantQuota>) => Promise<Course>> = {
  memory: async (account, tenants) => {
    const clock = new ManualClock();
    const plan = (quota: AccountQuota, all: Record<string, TenantQuota>): QuotaPlan => ({
      accounts: new Map([['main', quota]]),
      tenants: new Map([['main', new Map(Object.entries(all))]]),
    });
    const log = quiet as Log;
    const store = createMemoryQuotaStore({ clock, plan: plan(account, tenants), meter: quiet as Meter, log });
    return {
      ...{ clock, store },
      pass: async (ms) => clock.advance(ms),
      configure: (quota, all = tenants) => store.configure(plan(quota, all)),
    };
  },
  Redis: async (account, tenants) => {
    const world = new QuotaSimulation({ redis: server.client(), account, tenants, prefix: `budgets${runs++}` });
    const { store } = await world.join();
    await world.pass(2_600);
    return {
      ...{ clock: world.clock, store },
      async pass(ms) {
        await world.settle();
        await world.pass(ms);
      },
      configure: (quota, all = tenants) => world.configure(quota, all),
    };
  },
};

const ask = (store: QuotaStore, { tenant = 'a', budgets = ['starts'] } = {}): Promise<Decision> =>
  store.admit({ account: 'main', tenant, maxWaitMs: 0, budgets });
const askAtOnce = (store: QuotaStore, count: number, of?: Parameters<typeof ask>[1]) =>
  Promise.all(Array.from({ length: count }, () => ask(store, of)));
const admitted = (decisions: readonly Decision[]) =>
  decisions.flatMap((each) => (each.kind === 'admitted' ? [each.slot] : []));
const usedOf = (store: QuotaStore) => store.view('main').budgets?.[0]?.used;

/** The same suite for every quota store. */
describe.each(Object.entries(kinds))('a budget, counted in %s,', (_, open) => {
  const start = async (account: AccountQuota, tenants: Record<string, TenantQuota> = { a: ROOMY, b: ROOMY }) => {
    const course = await open(account, tenants);
    // The first response fills the bucket of new state.
    const [first] = admitted([await course.store.admit({ account: 'main', tenant: null, maxWaitMs: 0 })]);
    first?.complete({ limit: account.limit, remaining: account.limit - 1, throttled: null });
    await course.pass(61_000);
    return course;
  };

  test('admits exactly its limit of all that ask at once, and tells the others when it is reset', async () => {
    const { store, clock, pass } = await start(starts());
    const decisions = await askAtOnce(store, 100);
    expect(admitted(decisions)).toHaveLength(40);
    const resetsAt = Date.parse('2026-12-01T00:00:00Z');
    for (const each of decisions.slice(40)) {
      expect(each).toMatchObject({
        ...{ kind: 'rejected', by: 'budget', retryAfterMs: resetsAt - clock.now() },
        budget: { budget: 'starts', scope: 'account', resetsAt },
      });
    }
    // A rejection has spent nothing.
    await pass(600);
    expect(store.view('main').slotsInUse).toBe(40);
    expect(store.peek('main', 'a').remaining).toBeGreaterThanOrEqual(ROOMY.burst - 40);
    // Others than the requests it is for are not affected, nor counted.
    expect(admitted(await askAtOnce(store, 5, { budgets: [] }))).toHaveLength(5);
    expect(usedOf(store)).toBe(40);
  });

  test('has spent nothing on a request that another limit refuses', async () => {
    const narrow = { ...ROOMY, rate: 60, burst: 2 };
    const { store } = await start({ ...starts(), ceiling: 8, burst: 8 }, { a: narrow, b: ROOMY });
    expect(admitted(await askAtOnce(store, 5))).toHaveLength(2);
    expect(usedOf(store)).toBe(2);
    const others = admitted(await askAtOnce(store, 20, { tenant: 'b' })).length;
    expect(others).toBeLessThan(20);
    expect(usedOf(store)).toBe(2 + others);
  });

  test('gets back what was not sent, and not what may have been', async () => {
    const { store, clock, pass } = await start(starts({ limit: 3 }));
    const [first, second, third] = admitted(await askAtOnce(store, 5));
    first?.refund();
    second?.complete({ limit: null, remaining: null, throttled: null });
    third?.lose(clock.monotonic());
    await pass(1_000);
    expect(usedOf(store)).toBe(2);
    expect(admitted(await askAtOnce(store, 5))).toHaveLength(1);
    await pass(120_000);
    expect(usedOf(store)).toBe(3);
  });

  test('leaves a tenant its part, and no more', async () => {
    const { store } = await start(starts({ limit: 10 }), { a: part(3), b: ROOMY });
    const decisions = await askAtOnce(store, 5);
    expect(admitted(decisions)).toHaveLength(3);
    expect(decisions[4]).toMatchObject({ by: 'budget', budget: { scope: 'tenant' } });
    expect(store.peek('main', 'a').budgets).toMatchObject([{ id: 'starts', limit: 3, used: 3, left: 0, warnAt: 3 }]);
    expect(admitted(await askAtOnce(store, 20, { tenant: 'b' }))).toHaveLength(7);
    expect(store.peek('main', 'b').budgets).toMatchObject([{ limit: null, allowed: 10, used: 7, left: 0 }]);
  });

  test('begins anew at midnight of the first of the month in its time zone', async () => {
    const { store, clock, pass } = await start(starts({ limit: 2, timeZone: 'Europe/London' }));
    clock.stepWall(Date.parse('2026-10-31T23:59:59.000Z') - clock.now());
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(2);
    expect(await ask(store)).toMatchObject({ by: 'budget', retryAfterMs: 1_000 });
    await pass(999);
    expect((await ask(store)).kind).toBe('rejected');
    await pass(1);
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(2);
    // A clock that is set back finds the month before as it was.
    clock.stepWall(-1_000);
    expect((await ask(store)).kind).toBe('rejected');
  });

  test('has the reset of a day of 25 hours', async () => {
    const { store, clock } = await start(starts({ limit: 1, per: 'day', timeZone: 'Europe/London' }));
    clock.stepWall(Date.parse('2026-10-24T23:00:00.000Z') - clock.now());
    await ask(store);
    expect(await ask(store)).toMatchObject({ by: 'budget', retryAfterMs: 25 * 3_600_000 });
  });

  test('goes on with what was used after a reload that changes its limit', async () => {
    const { store, configure, pass } = await start(starts({ limit: 5 }));
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(5);
    configure(starts({ limit: 7 }));
    await pass(1_000);
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(2);
    configure(starts({ limit: 3 }));
    expect(await ask(store)).toMatchObject({ by: 'budget' });
    expect(store.view('main').budgets).toMatchObject([{ limit: 3, used: 7, left: 0 }]);
    configure(PLENTY);
    expect((await ask(store)).kind).toBe('admitted');
    expect(store.view('main').budgets).toBeUndefined();
  });

  test('finds what was used of the day and of the month after a reload that changes its period', async () => {
    const { store, clock, configure, pass } = await start(starts({ limit: 5 }));
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(3);
    clock.stepWall(24 * 3_600_000);
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(2);
    configure(starts({ limit: 5, per: 'day' }));
    await pass(1_000);
    expect(usedOf(store)).toBe(2);
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(3);
    configure(starts({ limit: 9, per: 'month' }));
    expect(usedOf(store)).toBe(8);
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(1);
  });

  test('finds what a tenant has used before it had a part of its own', async () => {
    const { store, configure } = await start(starts({ limit: 9 }));
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(3);
    configure(starts({ limit: 9 }), { a: part(4), b: ROOMY });
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(1);
  });

  test('goes on with the count of the same date after a reload that changes the time zone', async () => {
    const { store, clock, configure, pass } = await start(starts({ limit: 5, per: 'day' }));
    clock.stepWall(Date.parse('2026-11-10T12:00:00.000Z') - clock.now());
    expect(admitted(await askAtOnce(store, 3))).toHaveLength(3);
    configure(starts({ limit: 5, per: 'day', timeZone: 'Europe/London' }));
    await pass(1_000);
    expect(admitted(await askAtOnce(store, 9))).toHaveLength(2);
    // There it is the next day already.
    configure(starts({ limit: 5, per: 'day', timeZone: 'Pacific/Kiritimati' }));
    await pass(1_000);
    expect(usedOf(store)).toBe(0);
    expect(admitted(await askAtOnce(store, 1))).toHaveLength(1);
    configure(starts({ limit: 9, per: 'day', timeZone: 'UTC' }));
    expect(usedOf(store)).toBe(5);
  });
});

describe('replicas that share a budget', () => {
  const world = async (account = starts(), options: { onOutage?: 'closed' } = {}) => {
    const redis = server.client();
    const made = new QuotaSimulation({
      ...{ redis, account, tenants: { a: ROOMY, b: part(30) }, prefix: `shared${runs++}`, ...options },
    });
    const replicas: Replica[] = [];
    for (let i = 0; i < 3; i++) replicas.push(await made.join());
    await made.pass(2_600);
    // The first response fills the bucket of new state.
    const [first] = admitted([await replicas[0]!.store.admit({ account: 'main', tenant: null, maxWaitMs: 0 })]);
    first?.complete(FULL);
    await made.pass(61_000);
    /** So many at each replica at once; how many were admitted. */
    const each = async (count: number) => {
      const all = replicas.filter(({ alive }) => alive).map(({ store }) => askAtOnce(store, count));
      const slots = admitted((await Promise.all(all)).flat());
      for (const slot of slots) slot.complete(FULL);
      return slots.length;
    };
    const lines = (state: Replica['connection']) => {
      for (const replica of replicas) replica.connection = state;
    };
    return { redis, made, replicas, each, lines, used: () => replicas.map(({ store }) => usedOf(store)) };
  };

  test('admit exactly its limit together, and know of each other within a heartbeat', async () => {
    const { each, made, used } = await world();
    expect(await each(34)).toBe(40);
    await made.pass(600);
    expect(used()).toEqual([40, 40, 40]);
  });

  test.each(['empty', 'with what it had a moment before'])(
    'admit exactly its limit when Redis is restarted midway, %s',
    async (what) => {
      const { each, made, redis, lines, used } = await world();
      const before = await made.dump();
      let sent = await each(5);
      expect(sent).toBe(15);
      lines('down');
      if (what === 'empty') await redis.flushall();
      else await made.restore(before);
      lines('up');
      for (let i = 0; i < 8; i++) {
        await made.pass(500);
        sent += await each(5);
      }
      await made.pass(600);
      expect([sent, ...used()]).toEqual([40, 40, 40, 40]);
    },
  );

  test('admit exactly its limit when Redis loses it again before all of them have seen the other counts', async () => {
    const { each, made, redis, replicas, used } = await world();
    let sent = await each(3);
    // A count that no living replica has seen is lost.
    await made.pass(600);
    replicas[2]!.crash();
    await redis.flushall();
    await made.pass(200);
    await redis.flushall();
    for (let i = 0; i < 14; i++) {
      await made.pass(500);
      sent += await each(5);
    }
    expect([sent, ...used().slice(0, 2)]).toEqual([40, 40, 40]);
  });

  test('make the state anew when Redis has removed the counts alone', async () => {
    const { each, made, redis } = await world();
    let sent = await each(5);
    await redis.del(...(await redis.keys('shared*:budgets:2026-11')));
    for (let i = 0; i < 10; i++) {
      sent += await each(4);
      await made.pass(500);
    }
    expect(sent).toBe(40);
  });

  test('do not count what Redis has admitted in a command whose reply was lost', async () => {
    const { each, made, replicas, used } = await world();
    let sent = await each(2);
    replicas[1]!.connection = 'mute';
    sent += await each(4);
    await made.pass(100);
    replicas[1]!.connection = 'up';
    await made.pass(1_500);
    expect(used()).toEqual([sent, sent, sent]);
    for (let i = 0; i < 8; i++) {
      sent += await each(4);
      await made.pass(500);
    }
    expect([sent, ...used()]).toEqual([40, 40, 40, 40]);
  });

  test('without Redis send no more than is left of it together, and count it on return', async () => {
    const { each, made, lines, used } = await world(starts({ limit: 300_000 }));
    let sent = await each(20);
    await made.pass(500);
    lines('down');
    let alone = 0;
    for (let i = 0; i < 20; i++) {
      await made.pass(500);
      alone += await each(1_000);
    }
    expect(alone).toBeGreaterThan(100);
    sent += alone;
    expect(sent).toBeLessThanOrEqual(300_000);
    lines('up');
    await made.pass(5_000);
    expect(used()).toEqual([sent, sent, sent]);
  });

  test('without Redis send nothing more of a budget whose rest another one may have sent', async () => {
    const { each, made, lines } = await world(starts({ limit: 40 }));
    let sent = await each(13);
    lines('down');
    for (let i = 0; i < 20; i++) {
      await made.pass(500);
      sent += await each(40);
    }
    expect(sent).toBeLessThanOrEqual(40);
  });

  test('count what each has sent without Redis on top of each other, when Redis comes back empty', async () => {
    const { each, made, lines, redis, replicas, used } = await world(starts({ limit: 300_000 }));
    let sent = await each(20);
    await made.pass(500);
    // The others have not seen the latest of this one.
    const latest = admitted(await askAtOnce(replicas[2]!.store, 7));
    sent += latest.length;
    lines('down');
    for (const slot of latest) slot.complete(FULL);
    await redis.flushall();
    for (let i = 0; i < 20; i++) {
      await made.pass(500);
      sent += await each(50);
    }
    lines('up');
    await made.pass(5_000);
    expect(used()).toEqual([sent, sent, sent]);
  });

  test('give back what was admitted and not sent, with and without Redis', async () => {
    const { made, lines, replicas, used } = await world(starts({ limit: 300_000 }));
    const { store } = replicas[0]!;
    const slots = admitted(await askAtOnce(store, 3));
    slots[0]?.refund();
    await made.pass(700);
    expect(used()).toEqual([2, 2, 2]);
    lines('down');
    await made.pass(3_000);
    const alone = admitted(await askAtOnce(store, 3));
    expect(alone).toHaveLength(3);
    // Admitted with Redis, and not sent while it is away; and admitted without it.
    slots[1]?.refund();
    alone[0]?.refund();
    await made.pass(1_000);
    lines('up');
    await made.pass(3_000);
    alone[1]?.refund();
    await made.pass(700);
    expect(used()).toEqual([2, 2, 2]);
  });
});
