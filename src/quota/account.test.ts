import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import type { MonotonicMs } from '../clock.ts';
import type { Log, Meter } from '../ports.ts';
import type { AccountQuota, AdvertisedLimit, Decision, QuotaPlan, Slot, TenantQuota } from './quota-store.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
const NOTHING_SEEN: AdvertisedLimit = { limit: null, remaining: null, throttled: null };
const seen = (remaining: number, limit = 240): AdvertisedLimit => ({ limit, remaining, throttled: null });
const refusedUpstream = (retryAfterMs: number | null): AdvertisedLimit => ({
  limit: 240,
  remaining: 0,
  throttled: { retryAfterMs },
});

function plan(quota: AccountQuota, tenants: Record<string, TenantQuota> = { a: ROOMY }): QuotaPlan {
  return { accounts: new Map([['main', quota]]), tenants: new Map([['main', new Map(Object.entries(tenants))]]) };
}

/** A store whose bucket a first response has filled, unless it is to be cold. */
async function storeOf(quota: Partial<AccountQuota> = {}, tenants?: Record<string, TenantQuota>, cold = false) {
  const clock = new ManualClock();
  const full = { limit: 240, ceiling: 235, burst: 240, ...quota };
  const store = createMemoryQuotaStore({ clock, plan: plan(full, tenants), meter: quiet as Meter, log: quiet as Log });
  const ask = (tenant: string | null = 'a') => store.admit({ account: 'main', tenant, maxWaitMs: 0 });
  if (!cold) {
    const first = slotOf(await ask(null));
    first.complete(seen(full.limit - 1, full.limit));
    clock.advance(61_000);
  }
  return { clock, store, ask, view: () => store.view('main') };
}

/** The requests admitted in this time are sent, and have no response yet. */
async function admittedWithin(clock: ManualClock, ask: () => Promise<Decision>, ms: number): Promise<number> {
  let admitted = 0;
  for (let at = 0; at <= ms; at += 50) {
    while ((await ask()).kind === 'admitted') admitted++;
    if (at < ms) clock.advance(50);
  }
  return admitted;
}

function slotOf(decision: Decision): Slot {
  if (decision.kind !== 'admitted') throw new Error(`rejected by ${decision.by}`);
  return decision.slot;
}

describe('a slot', () => {
  test('is held from admission until 60 s after the response', async () => {
    const { clock, ask, view } = await storeOf();
    const slot = slotOf(await ask());
    clock.advance(100_000);
    expect(view().slotsInUse).toBe(1);
    slot.complete(NOTHING_SEEN);
    clock.advance(60_000);
    expect(view().slotsInUse).toBe(1);
    // A tenth of a second more, for a clock of Redis that was set forward without notice.
    clock.advance(100);
    expect(view().slotsInUse).toBe(0);
  });

  test('without a response is held until 60 s after the latest moment at which the request may arrive', async () => {
    const { clock, ask, view } = await storeOf();
    slotOf(await ask()).lose((clock.monotonic() + 15_000) as MonotonicMs);
    clock.advance(75_000);
    expect(view().slotsInUse).toBe(1);
    clock.advance(100);
    expect(view().slotsInUse).toBe(0);
  });

  test('whose request never left is given back at once, with the token', async () => {
    const { ask, view, store } = await storeOf({}, { a: { ...ROOMY, rate: 1, burst: 1 } });
    slotOf(await ask()).refund();
    expect(view().slotsInUse).toBe(0);
    expect(store.peek('main', 'a').remaining).toBe(1);
  });

  test('ends once: what is said of it later changes nothing', async () => {
    const { clock, ask, view } = await storeOf();
    const slot = slotOf(await ask());
    slot.complete(NOTHING_SEEN);
    slot.refund();
    slot.lose((clock.monotonic() + 1e6) as MonotonicMs);
    expect(view().slotsInUse).toBe(1);
    clock.advance(60_100);
    expect(view().slotsInUse).toBe(0);
  });

  test('is not freed by a step of the wall clock', async () => {
    const { clock, ask, view } = await storeOf({ ceiling: 2 });
    for (const slot of [slotOf(await ask()), slotOf(await ask())]) slot.complete(NOTHING_SEEN);
    clock.stepWall(3_600_000);
    expect((await ask()).kind).toBe('rejected');
    clock.stepWall(-7_200_000);
    expect(view().slotsInUse).toBe(2);
  });
});

describe('a rejection', () => {
  test('spends nothing', async () => {
    const { ask, store, view } = await storeOf({ ceiling: 3 }, { a: ROOMY, b: { ...ROOMY, rate: 60, burst: 1 } });
    slotOf(await ask('b'));
    const before = [view(), store.peek('main', 'a'), store.peek('main', 'b')];
    for (let i = 0; i < 10; i++) expect(await ask('b')).toMatchObject({ kind: 'rejected', by: 'tenant' });
    expect([view(), store.peek('main', 'a'), store.peek('main', 'b')]).toEqual(before);
    slotOf(await ask('a'));
    slotOf(await ask('a'));
    for (let i = 0; i < 10; i++) expect(await ask('a')).toMatchObject({ kind: 'rejected', by: 'account' });
    expect(view().slotsInUse).toBe(3);
  });

  test('by its own bucket says when it is worth asking again: not a millisecond too early', async () => {
    const { clock, ask } = await storeOf({}, { a: { ...ROOMY, rate: 30, burst: 2 } });
    for (let i = 0; i < 12; i++) {
      const decision = await ask();
      if (decision.kind === 'admitted') decision.slot.complete(NOTHING_SEEN);
      else {
        expect(decision.by).toBe('tenant');
        clock.advance(decision.retryAfterMs - 1);
        expect((await ask()).kind).toBe('rejected');
        clock.advance(1);
        slotOf(await ask()).complete(NOTHING_SEEN);
      }
    }
  });

  test.each([20, 60, 235])('by an account of ceiling %i says so to half a slot interval', async (ceiling) => {
    const { clock, ask } = await storeOf({ ceiling });
    for (let told = 0; told < 60; ) {
      const decision = await ask();
      if (decision.kind === 'admitted') decision.slot.complete(NOTHING_SEEN);
      else {
        told += 1;
        clock.advance(decision.retryAfterMs);
        const next = await ask();
        // The pace follows the slots that become free, and those are not all known yet.
        if (next.kind === 'admitted') next.slot.complete(NOTHING_SEEN);
        else expect(next.retryAfterMs).toBeLessThanOrEqual(60_000 / ceiling / 2);
      }
    }
  });
});

describe('a cold start', () => {
  test('lets one request go ahead, and its response fills the bucket', async () => {
    const { ask } = await storeOf({ burst: 60 }, undefined, true);
    const first = slotOf(await ask());
    expect(await ask()).toMatchObject({ kind: 'rejected', by: 'account' });
    first.complete(seen(239));
    for (let i = 0; i < 59; i++) slotOf(await ask());
  });

  test('believes the first X-RateLimit-Remaining: what the minute before has used is not there', async () => {
    const { clock, ask, view } = await storeOf({ burst: 60 }, undefined, true);
    slotOf(await ask()).complete(seen(10));
    expect(view().externalUsage).toBe(229);
    expect(await admittedWithin(clock, ask, 0)).toBe(2);
    expect(await admittedWithin(clock, ask, 59_000)).toBe(3);
  });
});

describe('use of the account by others', () => {
  test('is seen, and no more is admitted than is left', async () => {
    const { clock, ask, view } = await storeOf();
    for (let i = 0; i < 10; i++) slotOf(await ask()).complete(seen(240 - 100 - i - 1));
    expect(view().externalUsage).toBe(100);
    // The pace is computed anew.
    clock.advance(100);
    const atOnce = await admittedWithin(clock, ask, 0);
    expect(atOnce).toBe(Math.floor(235 - 110 - (235 - 100) / 2));
    expect(atOnce + (await admittedWithin(clock, ask, 59_800))).toBe(235 - 110);
  });

  test('is forgotten when the upstream window must have ended', async () => {
    const { clock, ask, view } = await storeOf();
    slotOf(await ask()).complete(seen(0));
    expect((await ask()).kind).toBe('rejected');
    clock.advance(60_000);
    expect(view().externalUsage).toBe(0);
    slotOf(await ask());
  });

  test('is forgotten as soon as the upstream window is seen to have restarted', async () => {
    const { clock, ask, view } = await storeOf();
    slotOf(await ask()).complete(seen(100));
    clock.advance(10_000);
    slotOf(await ask()).complete(seen(239));
    expect(view().externalUsage).toBe(0);
  });

  test("is not inferred from a limit that is not the account's", async () => {
    const { ask, view } = await storeOf();
    slotOf(await ask()).complete(seen(3, 10));
    slotOf(await ask()).complete(seen(9_999));
    expect(view().externalUsage).toBe(0);
  });
});

describe('a 429 from upstream', () => {
  test('holds the account until Retry-After; a later one extends, and none shortens', async () => {
    const { ask, view } = await storeOf();
    const [one, two, three] = [slotOf(await ask()), slotOf(await ask()), slotOf(await ask())];
    one.complete(refusedUpstream(20_000));
    expect(await ask()).toMatchObject({ kind: 'rejected', by: 'cooldown', retryAfterMs: expect.any(Number) });
    two.complete(refusedUpstream(5_000));
    expect(view().cooldownMs).toBe(20_000);
    three.complete(refusedUpstream(30_000));
    expect(view().cooldownMs).toBe(30_000);
  });

  test('that does not say how long holds 10 s, doubling with each further one, and one burst is one', async () => {
    const { clock, ask, view } = await storeOf();
    const bare: AdvertisedLimit = { limit: null, remaining: null, throttled: { retryAfterMs: null } };
    const burst = [slotOf(await ask()), slotOf(await ask())];
    for (const slot of burst) slot.complete(bare);
    expect(view().cooldownMs).toBe(10_000);
    clock.advance(10_001);
    slotOf(await ask()).complete(bare);
    expect(view().cooldownMs).toBe(20_000);
    clock.advance(20_001);
    slotOf(await ask()).complete(NOTHING_SEEN);
    slotOf(await ask()).complete(bare);
    expect(view().cooldownMs).toBe(10_000);
  });

  test('that says less than a second holds one, doubling to 6 s while upstream goes on refusing', async () => {
    const { clock, ask, view } = await storeOf();
    const says = (retryAfterMs: number): AdvertisedLimit => ({ ...NOTHING_SEEN, throttled: { retryAfterMs } });
    const cooldowns: number[] = [];
    for (const retryAfterMs of [0, 0, 300, 0, 0]) {
      slotOf(await ask()).complete(says(retryAfterMs));
      const { cooldownMs } = view();
      clock.advance(cooldownMs + 1);
      cooldowns.push(cooldownMs);
    }
    expect(cooldowns).toEqual([1_000, 2_000, 4_000, 6_000, 6_000]);
    slotOf(await ask()).complete(NOTHING_SEEN);
    slotOf(await ask()).complete(says(0));
    expect(view().cooldownMs).toBe(1_000);
  });

  test('is not believed to last for days', async () => {
    const { ask, view } = await storeOf();
    slotOf(await ask()).complete(refusedUpstream(1e9));
    expect(view().cooldownMs).toBe(3_600_000);
  });
});

describe('a new configuration', () => {
  test('neither refills nor empties what is spent', async () => {
    const { ask, store, view } = await storeOf({}, { a: { ...ROOMY, rate: 60, burst: 20 } });
    for (let i = 0; i < 15; i++) slotOf(await ask());
    store.configure(plan({ limit: 240, ceiling: 200, burst: 240 }, { a: { ...ROOMY, rate: 60, burst: 20 } }));
    expect(store.peek('main', 'a').remaining).toBe(5);
    expect(view()).toMatchObject({ ceiling: 200, slotsInUse: 15 });
    store.configure(plan({ limit: 240, ceiling: 200, burst: 240 }, { a: { ...ROOMY, rate: 60, burst: 30 } }));
    expect(store.peek('main', 'a').remaining).toBe(15);
    store.configure(plan({ limit: 240, ceiling: 200, burst: 240 }, { a: { ...ROOMY, rate: 60, burst: 4 } }));
    expect(store.peek('main', 'a').remaining).toBe(0);
  });
});

/** An upstream as Patchworks has it: a fixed window that the first request opens. Counts what no gateway can see. */
class FixedWindow {
  #opened = Number.NEGATIVE_INFINITY;
  #count = 0;
  readonly arrivals: number[] = [];
  throttled = 0;

  arrive(at: number, limit: number): AdvertisedLimit {
    if (at - this.#opened >= 60_000) {
      this.#opened = at;
      this.#count = 0;
    }
    this.arrivals.push(at);
    if (this.#count >= limit) {
      this.throttled++;
      return {
        limit,
        remaining: 0,
        throttled: { retryAfterMs: Math.floor((this.#opened + 60_000 - at) / 1000) * 1000 },
      };
    }
    this.#count++;
    return seen(limit - this.#count, limit);
  }

  greatestInAnyMinute(): number {
    const times = [...this.arrivals].sort((a, b) => a - b);
    let greatest = 0;
    let from = 0;
    for (let to = 0; to < times.length; to++) {
      while (times[from]! <= times[to]! - 60_000) from++;
      greatest = Math.max(greatest, to - from + 1);
    }
    return greatest;
  }
}

describe('never above the ceiling', () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('ask' as const),
        eager: fc.boolean(),
        count: fc.integer({ min: 1, max: 8 }),
        latencyMs: fc.integer({ min: 0, max: 40_000 }),
        arriveAt: fc.constantFrom(0, 0.5, 1),
        end: fc.constantFrom('complete', 'complete', 'complete', 'lose', 'refund'),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 30_000 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('wall' as const), ms: fc.integer({ min: -4e6, max: 4e6 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('configure' as const), burst: fc.integer({ min: 1, max: 20 }) }),
    },
  );

  const ceilings = fc.integer({ min: 1, max: 12 });
  const histories = fc.array(step, { maxLength: 60, size: 'max' });

  test('any 60 s upstream see at most the ceiling, whatever the latency, losses, refunds and clock steps', async () => {
    await fc.assert(
      fc.asyncProperty(ceilings, histories, async (ceiling, steps) => {
        const { clock, store, ask, view } = await storeOf({ limit: ceiling + 1, ceiling, burst: 20 });
        const upstream = new FixedWindow();
        for (const each of steps) {
          if (each.kind === 'wait') clock.advance(each.ms);
          else if (each.kind === 'wall') clock.stepWall(each.ms);
          else if (each.kind === 'configure') store.configure(plan({ limit: ceiling + 1, ceiling, burst: each.burst }));
          else {
            for (let i = 0; i < each.count; i++) {
              let decision = await ask();
              if (decision.kind === 'rejected' && each.eager) {
                // Asks again at the very moment of retryAfterMs.
                clock.advance(decision.retryAfterMs);
                decision = await ask();
              }
              if (decision.kind === 'rejected') continue;
              const admittedAt = clock.monotonic();
              if (each.end === 'refund') clock.after(each.latencyMs, () => decision.slot.refund());
              else {
                // Arrives at any moment between admission and response; a lost one at any moment until it cannot any more.
                const arrival = admittedAt + each.latencyMs * each.arriveAt;
                upstream.arrivals.push(arrival);
                clock.after(each.latencyMs, () => {
                  if (each.end === 'complete') decision.slot.complete(NOTHING_SEEN);
                  else decision.slot.lose(clock.monotonic());
                });
              }
            }
          }
          expect(view().slotsInUse).toBeLessThanOrEqual(ceiling);
        }
        clock.advance(100_000);
        expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(ceiling);
      }),
      { numRuns: 300 },
    );
  });

  test.each([[235], [239]])(
    'a saturated account with jittery latency uses nearly all of a ceiling of %i, without one 429',
    async (ceiling) => {
      for (const seed of [1, 2, 3, 4, 5]) {
        const { clock, ask, view } = await storeOf({ ceiling, burst: 60 });
        const upstream = new FixedWindow();
        let state = seed;
        const random = () => {
          state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
          return state / 2 ** 31;
        };
        const minutes = 10;
        const start = clock.monotonic();
        let admitted = 0;
        while (clock.monotonic() < start + minutes * 60_000) {
          clock.advance(50);
          for (let decision = await ask(); decision.kind === 'admitted'; decision = await ask()) {
            if (clock.monotonic() >= start + 60_000) admitted++;
            const { slot } = decision;
            const latencyMs = 20 - Math.log(1 - random()) * 150;
            clock.after(latencyMs * random(), () => {
              const limits = upstream.arrive(clock.monotonic(), 240);
              clock.after(latencyMs * (1 - random()), () => slot.complete(limits));
            });
          }
          expect(view().externalUsage).toBe(0);
        }
        expect(upstream.throttled).toBe(0);
        expect(upstream.greatestInAnyMinute()).toBeLessThanOrEqual(ceiling);
        expect(admitted / (minutes - 1)).toBeGreaterThanOrEqual(ceiling * 0.985);
      }
    },
  );
});
