import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryQuotaStore } from '../../src/adapters/memory/quota-store.ts';
import type { Log, Meter } from '../../src/ports.ts';
import type {
  AccountQuota,
  AdvertisedLimit,
  Decision,
  QuotaPlan,
  QuotaStore,
  Slot,
  TenantQuota,
} from '../../src/quota/quota-store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { QuotaSimulation } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
const ACCOUNT: AccountQuota = { limit: 240, ceiling: 235, burst: 240 };
const seen = (remaining: number): AdvertisedLimit => ({ limit: 240, remaining, throttled: null });
const NOTHING: AdvertisedLimit = { limit: null, remaining: null, throttled: null };

interface Course {
  readonly store: QuotaStore;
  pass(ms: number): Promise<void>;
  configure(account: AccountQuota, tenants: Record<string, TenantQuota>): void;
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
    const store = createMemoryQuotaStore({
      clock,
      plan: plan(account, tenants),
      meter: quiet as Meter,
      log: quiet as Log,
    });
    return {
      store,
      pass: async (ms) => clock.advance(ms),
      configure: (quota, all) => store.configure(plan(quota, all)),
    };
  },
  Redis: async (account, tenants) => {
    const world = new QuotaSimulation({ redis: server.client(), account, tenants, prefix: `contract${runs++}` });
    const { store } = await world.join();
    await world.pass(2_600);
    return {
      store,
      pass: async (ms) => {
        // Completions reach Redis a moment later.
        await world.settle();
        await world.pass(ms);
      },
      configure: (quota, all) => world.configure(quota, all),
    };
  },
};

/** The same suite for every quota store. */
describe.each(Object.entries(kinds))('the quota store in %s', (_, open) => {
  const start = async (account: Partial<AccountQuota> = {}, tenants: Record<string, TenantQuota> = { a: ROOMY }) => {
    const full = { ...ACCOUNT, ...account };
    const course = await open(full, tenants);
    const ask = async (tenant: string | null = 'a', maxWaitMs = 0, background = false) =>
      course.store.admit({ account: 'main', tenant, maxWaitMs, background });
    const slot = async (tenant: string | null = 'a'): Promise<Slot> => slotOf(await ask(tenant));
    // The first response fills the bucket of new state.
    (await slot(null)).complete({ limit: full.limit, remaining: full.limit - 1, throttled: null });
    await course.pass(61_000);
    /** The requests admitted in this time. */
    const admittedWithin = async (ms: number, tenant = 'a', stepMs = 250): Promise<number> => {
      let admitted = 0;
      for (let at = 0; at <= ms; at += stepMs) {
        while ((await ask(tenant)).kind === 'admitted') admitted++;
        if (at < ms) await course.pass(stepMs);
      }
      return admitted;
    };
    return { ...course, ask, slot, admittedWithin, view: () => course.store.view('main') };
  };
  const slotOf = (decision: Decision): Slot => {
    if (decision.kind !== 'admitted') throw new Error(`rejected by ${decision.by}`);
    return decision.slot;
  };

  test('admits no more than the ceiling, and again when a slot is 60 s past its response', async () => {
    const { ask, slot, pass } = await start({ ceiling: 3 });
    const slots = [await slot(), await slot(), await slot()];
    expect(await ask()).toMatchObject({ kind: 'rejected', by: 'account' });
    for (const each of slots) each.complete(NOTHING);
    await pass(60_000);
    expect((await ask()).kind).toBe('rejected');
    await pass(1_000);
    expect((await ask()).kind).toBe('admitted');
  });

  test('leaves the last slots to requests with a caller: background requests take none of them', async () => {
    const { ask, slot } = await start({ ceiling: 20, burst: 20 });
    // A burst takes half of the ceiling.
    for (let i = 0; i < 7; i++) await slot();
    expect((await ask('a', 0, true)).kind).toBe('admitted');
    expect(await ask('a', 0, true)).toMatchObject({ kind: 'rejected', by: 'account' });
    // A slot that a background request was refused is there for the others.
    expect((await ask()).kind).toBe('admitted');
    expect((await ask()).kind).toBe('admitted');
    expect((await ask()).kind).toBe('rejected');
  });

  test('holds a slot as long as no response comes', async () => {
    const { ask, slot, pass } = await start({ ceiling: 1 });
    await slot();
    await pass(120_000);
    expect((await ask()).kind).toBe('rejected');
  });

  test('spends nothing on a rejection, and gives back a slot whose request never left', async () => {
    const { ask, slot, store, pass, view, admittedWithin } = await start(
      { ceiling: 3 },
      { a: ROOMY, b: { ...ROOMY, rate: 60, burst: 1 } },
    );
    const only = await slot('b');
    for (let i = 0; i < 5; i++) expect(await ask('b')).toMatchObject({ kind: 'rejected', by: 'tenant' });
    only.refund();
    await pass(600);
    expect(view().slotsInUse).toBe(0);
    expect(store.peek('main', 'b').remaining).toBe(1);
    expect(await admittedWithin(59_000)).toBe(3);
  });

  test('tells a tenant its own quota, the same on every way', async () => {
    const { ask, slot, store } = await start({}, { a: { ...ROOMY, rate: 60, burst: 5 } });
    await slot();
    await slot();
    const decision = await ask();
    expect(decision.tenant).toMatchObject({ limit: 60, burst: 5, remaining: 2 });
    expect(store.peek('main', 'a')).toEqual(decision.tenant);
    expect(decision.tenant.resetMs).toBe(3_000);
  });

  test('paces what comes after the burst by the ceiling, which no login needs', async () => {
    const { ask, admittedWithin } = await start({ burst: 8 });
    expect(await admittedWithin(0)).toBe(8);
    const rejected = await ask();
    expect(rejected).toMatchObject({ kind: 'rejected', by: 'account' });
    // A little slower than 60 s / 235, as the minute has begun with a burst.
    const { retryAfterMs } = rejected as Extract<Decision, { kind: 'rejected' }>;
    expect(retryAfterMs).toBeGreaterThan(255);
    expect(retryAfterMs).toBeLessThan(270);
    expect((await ask(null)).kind).toBe('admitted');
  });

  test('sees what others use, and sends no more than is left', async () => {
    const { slot, pass, view, admittedWithin } = await start();
    (await slot()).complete(seen(139));
    await pass(600);
    expect(view().externalUsage).toBe(100);
    // Half of what is left at once, and the rest within the minute.
    const atOnce = await admittedWithin(0);
    expect(atOnce).toBeGreaterThanOrEqual(Math.floor((235 - 101) / 2) - 1);
    expect(atOnce).toBeLessThanOrEqual(Math.ceil((235 - 101) / 2));
    // The last one may come in the last second.
    const all = atOnce + (await admittedWithin(59_000));
    expect(all).toBeGreaterThanOrEqual(235 - 101 - 1);
    expect(all).toBeLessThanOrEqual(235 - 101);
    await pass(61_000);
    expect(view().externalUsage).toBe(0);
  });

  test.each([
    [20_000, 20_000],
    [null, 10_000],
    [0, 1_000],
    [999, 1_000],
    [1_000, 1_000],
    [1e9, 3_600_000],
  ])(
    'a 429 that says %s ms holds the account for %i ms, for all tenants; a shorter one shortens nothing',
    async (said, heldMs) => {
      const { ask, slot, pass, view } = await start({}, { a: ROOMY, b: ROOMY });
      const [one, two] = [await slot(), await slot('b')];
      one.complete({ limit: 240, remaining: 0, throttled: { retryAfterMs: said } });
      await pass(1);
      expect(view().cooldownMs).toBe(heldMs - 1);
      two.complete({ limit: 240, remaining: 0, throttled: { retryAfterMs: 100 } });
      await pass(1);
      expect(await ask('b')).toMatchObject({
        kind: 'rejected',
        by: 'cooldown',
        retryAfterMs: Math.max(heldMs - 2, 999),
      });
    },
  );

  test('shares by weight what several wait for, within 5 %, and a newcomer gets its part within a window', async () => {
    const tenants = { a: ROOMY, b: ROOMY, c: { ...ROOMY, weight: 2 } };
    const { store, pass } = await start({ ceiling: 100, burst: 10 }, tenants);
    const got: Record<string, number> = { a: 0, b: 0, c: 0 };
    const flying: [number, Slot][] = [];
    const places = new Map<string, number | undefined>();
    let now = 0;
    const run = async (who: readonly string[], ms: number) => {
      for (const end = now + ms; now < end; now += 100) {
        // The order of asking must not decide.
        const order = now % 200 === 0 ? who : [...who].reverse();
        for (const tenant of order) {
          for (;;) {
            const place = places.get(tenant);
            const decision = await store.admit({ account: 'main', tenant, maxWaitMs: 30_000, books: true, place });
            places.set(tenant, decision.kind === 'rejected' ? decision.place : undefined);
            if (decision.kind === 'rejected') break;
            got[tenant] = (got[tenant] ?? 0) + 1;
            flying.push([now + 150, decision.slot]);
          }
        }
        while (flying[0] !== undefined && flying[0][0] <= now) flying.shift()?.[1].complete(NOTHING);
        await pass(100);
      }
    };
    await run(['a'], 120_000);
    // Alone it has everything.
    expect(got['a']).toBeGreaterThanOrEqual(190);
    for (const tenant of Object.keys(got)) got[tenant] = 0;
    await run(['a', 'b', 'c'], 61_000);
    expect(got['b']).toBeGreaterThanOrEqual(23);
    expect(got['c']).toBeGreaterThanOrEqual(46);
    for (const tenant of Object.keys(got)) got[tenant] = 0;
    await run(['a', 'b', 'c'], 240_000);
    const { a = 0, b = 0, c = 0 } = got;
    expect(Math.abs(a - b) / a).toBeLessThan(0.05);
    expect(Math.abs(c - a - b) / c).toBeLessThan(0.05);
    expect(a + b + c).toBeGreaterThanOrEqual(390);
  }, 60_000);

  test('keeps a guarantee for its tenant, whatever the others take', async () => {
    const tenants = { a: ROOMY, g: { ...ROOMY, reserved: 30 } };
    const { ask, pass, admittedWithin } = await start({ ceiling: 100, burst: 100 }, tenants);
    await pass(600);
    expect(await admittedWithin(150_000, 'a', 1_000)).toBe(70);
    // The pace does not matter.
    expect(await admittedWithin(0, 'g')).toBe(30);
    expect((await ask('a')).kind).toBe('rejected');
  });

  test('takes over new quotas without refilling or emptying, and forgets who is gone', async () => {
    const { ask, slot, store, configure, pass, view } = await start(
      { burst: 100 },
      { a: { ...ROOMY, rate: 1, burst: 20 } },
    );
    for (let i = 0; i < 15; i++) await slot();
    configure({ ...ACCOUNT, ceiling: 200, burst: 100 }, { a: { ...ROOMY, rate: 2, burst: 20 }, new: ROOMY });
    await pass(600);
    expect((await ask()).tenant.remaining).toBe(4);
    expect(view()).toMatchObject({ ceiling: 200 });
    configure({ ...ACCOUNT, ceiling: 200, burst: 100 }, { new: ROOMY });
    expect((await ask('a')).kind).toBe('rejected');
    expect(store.peek('main', 'a').limit).toBe(0);
    expect((await ask('new')).kind).toBe('admitted');
  });
});
