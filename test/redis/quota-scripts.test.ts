import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { completionOf, type LocalLease, LocalLeases } from '../../src/adapters/redis/quota/local-leases.ts';
import { QuotaClient } from '../../src/adapters/redis/quota/quota-client.ts';
import type { AccountSnapshot } from '../../src/adapters/redis/quota/quota-scripts.ts';
import { type AccountDecision, AccountState } from '../../src/quota/account.ts';
import { BudgetCalendar, BudgetCounts, type Charge, termsOf } from '../../src/quota/budgets.ts';
import type { AccountQuota, AdvertisedLimit, SlotRequest, TenantQuota } from '../../src/quota/quota-store.ts';
import type { Lease } from '../../src/quota/slot-supply.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let server: RedisServer;
let client: Redis;
beforeAll(async () => {
  server = await redisServer();
  client = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());

let runs = 0;

/** The scripts with time given from outside, and the model beside them. */
async function pair(quota: AccountQuota, tenants: Map<string, TenantQuota>) {
  // A month ends soon.
  const clock = new ManualClock(Date.parse('2026-11-30T23:58:00Z'));
  const start = 1_760_000_000_000;
  const now = () => start + clock.monotonic();
  const leases = new LocalLeases();
  const options = {
    connection: { client, isCluster: false, isReady: () => true, epoch: () => 1 },
    clock,
    serverTime: now,
    prefix: 'test',
    account: `pair${runs++}`,
    replica: () => 'one',
    process: 'p',
    onOutage: 'local',
    replicaGraceMs: 120_000,
    maxInFlightMs: 400_000,
    leases,
    newTicket: () => `ticket${runs++}`,
  } as const;
  const redis = new QuotaClient(options, quota, tenants);
  const calendar = new BudgetCalendar(clock);
  let snapshot: AccountSnapshot | null = null;
  let setup = { quota, tenants };
  const beat = async () => {
    snapshot = await redis.heartbeat(snapshot);
    if (snapshot === null) throw new Error('unknown');
    return snapshot;
  };
  const counts = new BudgetCounts();
  const model = new AccountState(quota, tenants, now(), { counts });
  await redis.join(null, { cooldownMs: 0, advertised: null });
  await beat();
  return {
    clock,
    model,
    leases,
    redis,
    now,
    /** Time passes as it does for a replica: with a beat every half second. */
    async pass(ms: number) {
      for (let left = ms; left > 0; left -= 1_500) {
        clock.advance(Math.min(left, 1_500));
        await beat();
      }
    },
    beat,
    async configure(next: typeof setup) {
      setup = next;
      model.configure(next.quota, next.tenants, now());
      redis.configure(next.quota, next.tenants);
      await beat();
    },
    async ask(request: SlotRequest) {
      const { tenant } = request;
      const terms = termsOf(setup.quota, setup.tenants.get(tenant ?? ''));
      const charges = calendar.charges(terms, tenant, request.budgets);
      const expected = model.admit({ ...request, charges }, now());
      const remaining = tenant === null ? 0 : model.tenantView(tenant, now()).remaining;
      const reply = await redis.admit({ ...request, charges });
      return { expected, remaining, reply, charges };
    },
    setup: () => setup,
    /** The budgets of a tenant and of the account: by the model, and as Redis has shown them. */
    budgets: () =>
      ['a', null].map((tenant) => [
        calendar.views(termsOf(setup.quota, setup.tenants.get(tenant ?? '')), tenant, (...of) => counts.used(...of)),
        redis.budgets.views(tenant),
      ]),
  };
}

/** An account whose slots are used up at the pace of its ceiling by tenant `a`, the others are idle. */
async function busyPair() {
  const tenant: TenantQuota = { rate: 6_000, burst: 1_000, weight: 1, reserved: 0, maxWaitMs: 0 };
  const quota: AccountQuota = { limit: 240, ceiling: 235, burst: 20, coldStart: 'idle' };
  const made = await pair(quota, new Map(Object.entries({ a: tenant, b: tenant, c: tenant })));
  /** Both decide alike; an admitted request stays in flight. */
  const decided = async (request: SlotRequest) => {
    const { expected, reply } = await made.ask({ books: true, ...request });
    expect(reply.kind).toBe(expected.kind);
    if (reply.kind === 'admitted') made.leases.begin(made.clock.monotonic());
    if (expected.kind === 'rejected' && reply.kind === 'rejected') expect(reply.waitMs).toBe(expected.retryAfterMs);
    return expected;
  };
  await made.pass(2_100);
  while ((await decided({ tenant: 'a', maxWaitMs: 0 })).kind === 'admitted');
  return { ...made, decided };
}

const seen = (limit: number) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<AdvertisedLimit>({ limit: null, remaining: null, throttled: null }) },
    {
      weight: 4,
      arbitrary: fc
        .integer({ min: 0, max: limit })
        .map((remaining): AdvertisedLimit => ({ limit, remaining, throttled: null })),
    },
    // A limit that changes is named by all responses for a while.
    {
      weight: 4,
      arbitrary: fc
        .record({ limit: fc.constantFrom(5, 5, 5, 5, 0, 9, 30), remaining: fc.integer({ min: 0, max: 6 }) })
        .map((named): AdvertisedLimit => ({ ...named, throttled: null })),
    },
    {
      weight: 1,
      arbitrary: fc
        .option(fc.oneof(fc.constantFrom(0, 999, 1_000), fc.integer({ min: 0, max: 20_000 })), { nil: null })
        .map((retryAfterMs): AdvertisedLimit => ({ limit, remaining: 0, throttled: { retryAfterMs } })),
    },
  );

/** Small enough to be used up: a budget a month, and one a day of a calendar that changes its date meanwhile. */
const budgets = fc
  .tuple(fc.integer({ min: 1, max: 30 }), fc.constantFrom('day' as const, 'month' as const))
  .map(([limit, per]) => {
    const common = { match: [], warnAtPercent: 80 };
    return new Map([
      ['starts', { ...common, limit, per, timeZone: 'UTC' }],
      ['reads', { ...common, limit: 40, per: 'day' as const, timeZone: 'Asia/Kathmandu' }],
    ]);
  });
const tenantQuota = fc.record({
  rate: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.constant(60_000)),
  burst: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(1_000)),
  weight: fc.constantFrom(1, 2, 3),
  reserved: fc.constantFrom(0, 0, 2),
  maxWaitMs: fc.constant(0),
  budgets: fc.constantFrom(new Map(), new Map([['starts', 3]]), new Map([['reads', 0]])),
});
const LIMIT = 13;
const setups = fc.record({
  quota: fc.record({
    limit: fc.constant(LIMIT),
    ceiling: fc.integer({ min: 6, max: 12 }),
    burst: fc.integer({ min: 1, max: 12 }),
    coldStart: fc.constantFrom('trust' as const, 'wait' as const, 'idle' as const),
    adoptLimit: fc.constantFrom(true, true, false),
    budgets,
  }),
  tenants: fc.tuple(tenantQuota, tenantQuota, tenantQuota).map(([a, b, c]) => new Map(Object.entries({ a, b, c }))),
});
const asked = fc.record({
  tenant: fc.constantFrom('a', 'b', 'c', 'a', 'b', 'c', null),
  maxWaitMs: fc.constantFrom(0, 0, 2_000, 30_000),
  background: fc.boolean(),
  urgency: fc.constantFrom(3, 3, 0, 1, 7),
  budgets: fc.constantFrom(undefined, ['starts'], ['starts', 'reads']),
});
const step = fc.oneof(
  {
    weight: 8,
    // Questions of one turn of the event loop go in one call.
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      askers: fc.oneof(fc.tuple(asked), fc.array(asked, { minLength: 2, maxLength: 40 })),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('complete' as const), which: fc.nat(20), seen: seen(LIMIT) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('refund' as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), which: fc.nat(20) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(20) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ms: fc.oneof(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 1, max: 20_000 })),
    }),
  },
  // A tenant asks again for its slot: in time, or too early, or too late.
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('askAgain' as const),
      lateMs: fc.constantFrom(-11, -10, 0, 0, 0, 250, 251),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('configure' as const), setup: setups }) },
);

describe('the scripts', () => {
  test('decide as the model does, over any history', async () => {
    await fc.assert(
      fc.asyncProperty(setups, fc.array(step, { maxLength: 80, size: 'max' }), async (setup, steps) => {
        const {
          model,
          redis,
          leases,
          clock,
          now,
          pass,
          ask,
          configure,
          beat,
          setup: present,
          budgets: countsOf,
        } = await pair(setup.quota, setup.tenants);
        const flying: {
          tenant: string | null;
          expected: Lease;
          reply: Lease;
          lease: LocalLease;
          charges: readonly Charge[];
        }[] = [];
        /** Requests that wait: when each is to ask again, by its place. */
        const waiters = new Map<number, { readonly tenant: string; readonly askAt: number }>();
        const decide = async (asks: SlotRequest) => {
          const { tenant, maxWaitMs, background = false, place, urgency = 3, budgets: counted } = asks;
          const books = tenant !== null && !background;
          const request = { tenant, maxWaitMs, urgency, background, books, place, budgets: counted };
          const { expected, remaining, reply, charges } = await ask(request);
          waiters.delete(place ?? 0);
          if (expected.kind === 'admitted') {
            expect(reply).toMatchObject({ kind: 'admitted', ...expected.lease });
            if (reply.kind === 'admitted')
              flying.push({
                ...{ tenant, expected: expected.lease, reply, charges },
                lease: leases.begin(clock.monotonic()),
              });
          } else {
            const { by, retryAfterMs, ...booked } = expected;
            expect(reply).toMatchObject({ ...booked, kind: 'rejected', by, waitMs: retryAfterMs });
            if (tenant !== null && expected.place !== undefined) {
              waiters.set(expected.place, { tenant, askAt: now() + expected.askAgainMs });
            }
          }
          if (tenant !== null && (reply.kind === 'admitted' || reply.kind === 'rejected')) {
            const quota = present().tenants.get(tenant);
            expect(Math.floor(((quota?.burst ?? 0) * 1e6 - reply.spent) / 1e6)).toBe(remaining);
          }
        };
        // Until the replicas of a state made anew have had the time to come, nothing is admitted.
        await pass(2_100);
        for (const each of steps) {
          if (each.kind === 'wait') await pass(each.ms);
          else if (each.kind === 'askAgain') {
            const [first] = [...waiters].sort(([, a], [, b]) => a.askAt - b.askAt);
            if (first === undefined) continue;
            const [place, { tenant, askAt }] = first;
            await pass(Math.max(0, askAt + each.lateMs - now()));
            await decide({ tenant, maxWaitMs: 30_000, place, budgets: ['starts'] });
          } else if (each.kind === 'configure') {
            await configure(each.setup);
            // A tenant's new rate reaches Redis with its next ask.
            for (const tenant of ['a', 'b', 'c']) await decide({ tenant, maxWaitMs: 0 });
          } else if (each.kind === 'cancel') {
            const waiting = [...waiters][each.which % Math.max(1, waiters.size)];
            if (waiting === undefined) continue;
            const [place, { tenant }] = waiting;
            waiters.delete(place);
            model.cancel(tenant, place);
            await redis.cancel(tenant, place);
          } else if (each.kind === 'ask') {
            await Promise.all(each.askers.map(decide));
          } else {
            const [slot] = flying.splice(each.which % Math.max(1, flying.length), 1);
            if (slot === undefined) continue;
            if (each.kind === 'refund') {
              model.refund(slot.tenant, now(), slot.charges);
              const burst = present().tenants.get(slot.tenant ?? '')?.burst ?? 0;
              const charges = slot.charges.map(({ label, field }) => [label, field] as const);
              const ofTenant = slot.tenant !== null && { tenant: slot.tenant };
              leases.complete(slot.lease, { kind: 'refund', ...ofTenant, burst, charges }, clock.monotonic());
            } else if (each.kind === 'lose') {
              model.lose(now());
              leases.complete(slot.lease, { kind: 'lost' }, clock.monotonic());
            } else {
              model.complete(slot.expected, each.seen, now());
              leases.complete(slot.lease, completionOf(slot.reply, each.seen), clock.monotonic());
            }
            await redis.complete();
          }
          const snapshot = await beat();
          const view = model.view(now());
          const { inFlight, completed, external, advertised } = snapshot;
          expect({ held: inFlight + completed, external, advertised }).toEqual({
            held: view.slotsInUse,
            external: view.externalUsage,
            advertised: view.advertisedLimit,
          });
          expect(snapshot.cooldownUntil - clock.monotonic()).toBe(view.cooldownMs);
          for (const [expected, shown] of countsOf()) expect(shown).toEqual(expected);
        }
      }),
      { numRuns: 150 },
    );
  }, 120_000);

  test('keep as many slots for newcomers as the model does, at a ceiling that has slots for them', async () => {
    const { pass, decided } = await busyPair();
    for (let asks = 0; asks < 150; asks++) await decided({ tenant: 'a', maxWaitMs: 0 });
    for (let second = 0; second < 20; second++) {
      await pass(1_000);
      for (const tenant of ['b', 'c']) await decided({ tenant, maxWaitMs: 0, books: false });
    }
    const appointments = new Set<number>();
    for (let asks = 0; asks < 100; asks++) {
      const decision = await decided({ tenant: 'a', maxWaitMs: 0 });
      if (decision.kind === 'rejected') appointments.add(decision.retryAfterMs);
    }
    expect(appointments.size).toBeGreaterThan(10);
  });

  test('keep the slot of the first request that waits, as the model does, whatever its tenant asks for behind it', async () => {
    const { pass, decided } = await busyPair();
    const first = await decided({ tenant: 'b', maxWaitMs: 30_000 });
    const second = await decided({ tenant: 'b', maxWaitMs: 30_000 });
    if (first.kind === 'admitted' || second.kind === 'admitted') throw new Error('nothing waits');
    expect(second.askAgainMs).toBeGreaterThan(first.askAgainMs);
    let decision: AccountDecision = first;
    for (let times = 0; decision.kind === 'rejected' && times < 20; times++) {
      // A little late, so that there is a slot for more than the one that waits.
      await pass(decision.askAgainMs + 200);
      expect(await decided({ tenant: 'a', maxWaitMs: 0, books: false })).toMatchObject({ kind: 'rejected' });
      decision = await decided({ tenant: 'b', maxWaitMs: 30_000, place: first.place });
    }
    expect(decision.kind).toBe('admitted');
  });
});
