import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import type { Log, Meter } from '../ports.ts';
import { AdvertisedLimitTracker } from './advertised-limit.ts';
import type { AccountQuota, AdvertisedLimit, Slot, TenantQuota } from './quota-store.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };

function advertisedAfter(named: readonly (number | null)[]): number | null {
  const tracker = new AdvertisedLimitTracker();
  for (const each of named) tracker.observe(each, 240);
  return tracker.current;
}

describe('the advertised limit', () => {
  test.each<[string, (number | null)[], number | null]>([
    ['is not known before three responses', [240, 240], null],
    ['is the lower one that three responses in a row name', [240, 120, 120, 120], 120],
    ['is not a stray one', [240, 240, 240, 60, 240, 240], 240],
    ['is not two stray ones', [240, 240, 240, 60, 60, 240], 240],
    ['is not three stray ones with others between them', [240, 60, 240, 60, 240, 60, 240], 240],
    ['needs a row that no response without the header breaks', [60, 60, null, 60, 60, null], null],
    ['is the nearest of three lower ones', [120, 90, 30], 120],
    ['falls on with the next response', [180, 120, 120, 120], 120],
    ['rises when three responses in a row name a higher one', [60, 60, 60, 240, 240, 240], 240],
    ['does not rise for a stray one', [60, 60, 60, 240, 60, 240, 60], 60],
    ['may be higher than the configured one', [480, 480, 480], 480],
  ])('%s', (_, named, expected) => {
    expect(advertisedAfter(named)).toBe(expected);
  });
});

async function storeOf(quota: Partial<AccountQuota> = {}, tenants: Record<string, TenantQuota> = { a: ROOMY }) {
  const clock = new ManualClock();
  const full = { limit: 240, ceiling: 235, burst: 240, ...quota };
  const lines: { fields: Record<string, unknown>; message: string }[] = [];
  const note = (fields: Record<string, unknown>, message: string) => void lines.push({ fields, message });
  const store = createMemoryQuotaStore({
    clock,
    plan: {
      accounts: new Map([['main', full]]),
      tenants: new Map([['main', new Map(Object.entries(tenants))]]),
    },
    meter: quiet as Meter,
    log: { debug: note, info: note, warn: note, error: note } as Log,
  });
  const ask = (tenant = 'a') => store.admit({ account: 'main', tenant, maxWaitMs: 0 });
  const slot = async (tenant?: string): Promise<Slot> => {
    const decision = await ask(tenant);
    if (decision.kind !== 'admitted') throw new Error(`rejected by ${decision.by}`);
    return decision.slot;
  };
  const respond = async (...all: AdvertisedLimit[]) => {
    for (const seen of all) (await slot()).complete(seen);
  };
  await respond(named(full.limit, full.limit - 1));
  clock.advance(61_000);
  return { clock, store, ask, slot, respond, lines, view: () => store.view('main') };
}

function named(limit: number, remaining: number | null = null): AdvertisedLimit {
  return { limit, remaining, throttled: null };
}

describe('while the upstream advertises', () => {
  test('a lower limit, ceiling and reserved slots are lowered in proportion, and rise with it', async () => {
    const reserved = (slots: number) => ({ ...ROOMY, reserved: slots });
    const { clock, respond, view, ask, slot } = await storeOf({}, { a: reserved(120), b: reserved(110), c: ROOMY });
    await respond(named(24), named(24));
    expect(view()).toMatchObject({ ceiling: 235, advertisedLimit: 240 });
    await respond(named(24));
    // 235, 120 and 110 of 240.
    expect(view()).toMatchObject({ limit: 240, advertisedLimit: 24, ceiling: 23 });
    clock.advance(61_000);
    for (let i = 0; i < 12; i++) await slot('a');
    for (let i = 0; i < 11; i++) await slot('b');
    expect(await ask('b')).toMatchObject({ kind: 'rejected', by: 'account' });
    expect(view().slotsInUse).toBe(23);
  });

  test('a lower limit, a rise to the configured one or above it restores the ceiling', async () => {
    for (const risen of [240, 500]) {
      const { respond, view, lines } = await storeOf();
      await respond(named(120), named(120), named(120));
      expect(view().ceiling).toBe(117);
      await respond(named(risen), named(risen), named(risen));
      expect(view()).toMatchObject({ ceiling: 235, advertisedLimit: risen });
      expect(lines.map(({ fields }) => [fields['advertised'], fields['ceiling']])).toEqual([
        [120, 117],
        [risen, 235],
      ]);
    }
  });

  test('no limit that is worth a slot, one request is sent in a minute, so that a rise is noticed', async () => {
    const { clock, respond, view, slot } = await storeOf();
    await respond(named(0), named(0), named(0));
    expect(view().ceiling).toBe(1);
    for (let i = 0; i < 3; i++) {
      clock.advance(61_000);
      (await slot()).complete(named(240, 200));
    }
    expect(view().ceiling).toBe(235);
  });

  test('another limit, and that is not to be followed, it is reported only', async () => {
    const { respond, view } = await storeOf({ adoptLimit: false });
    await respond(named(120, 0), named(120, 0), named(120, 0));
    expect(view()).toMatchObject({ ceiling: 235, advertisedLimit: 120, externalUsage: 0 });
    await respond(named(240, 100));
    expect(view().externalUsage).toBe(136);
  });

  test.each([[120], [480]])('a limit of %i, external usage is seen as before', async (limit) => {
    const { respond, view, ask } = await storeOf();
    await respond(named(limit), named(limit), named(limit));
    await respond(named(limit, limit - 4 - 30));
    expect(view().externalUsage).toBe(30);
    // A stray header belongs to another counter.
    await respond(named(10, 1));
    expect(view().externalUsage).toBe(30);
    await respond(named(limit, 0));
    expect(await ask()).toMatchObject({ kind: 'rejected', by: 'account' });
  });
});

describe('the lowered ceiling', () => {
  const step = fc.record({
    ask: fc.integer({ min: 0, max: 9 }),
    waitMs: fc.integer({ min: 0, max: 9_000 }),
    latencyMs: fc.integer({ min: 0, max: 20_000 }),
    arriveAt: fc.constantFrom(0, 0.5, 1),
  });

  test('holds from the adoption on: no request is sent while as many of the minute before it are held', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }),
        fc.integer({ min: 1, max: 19 }),
        fc.nat(30),
        async (steps, lowered, changesAfter) => {
          const { clock, ask, view } = await storeOf({ limit: 20, ceiling: 16, burst: 16 });
          const arrivals: number[] = [];
          let limit = 20;
          let adoptedAt = Number.POSITIVE_INFINITY;
          const ceiling = Math.max(1, Math.floor((16 * lowered) / 20));
          for (const [index, each] of steps.entries()) {
            if (index === changesAfter) limit = lowered;
            for (let i = 0; i < each.ask; i++) {
              const heldBefore = view().slotsInUse;
              const decision = await ask();
              if (decision.kind !== 'admitted') continue;
              if (clock.monotonic() >= adoptedAt) expect(heldBefore).toBeLessThan(ceiling);
              arrivals.push(clock.monotonic() + each.latencyMs * each.arriveAt);
              clock.after(each.latencyMs, () => {
                decision.slot.complete(named(limit));
                if (view().ceiling === ceiling && ceiling < 16) adoptedAt = Math.min(adoptedAt, clock.monotonic());
              });
            }
            clock.advance(each.waitMs);
          }
          // The last request of the old ceiling may arrive so much later.
          const from = adoptedAt + 20_000;
          const later = arrivals.filter((at) => at >= from).sort((a, b) => a - b);
          for (const at of later) {
            expect(later.filter((other) => other > at - 60_000 && other <= at).length).toBeLessThanOrEqual(ceiling);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
