import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import { NEVER_DISCONNECTS } from '../context.ts';
import type { Log, Meter } from '../ports.ts';
import { type AdmissionQueue, createAdmissionQueue } from './admission-queue.ts';
import { admitObserved, enforcedPlan, observedPlan, observingQuotaStore } from './observe.ts';
import type { AdvertisedLimit, QuotaPlan, Slot, TenantQuota } from './quota-store.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const NOTHING_SEEN: AdvertisedLimit = { limit: null, remaining: null, throttled: null };
const ACCOUNT = { limit: 100_001, ceiling: 100_000, burst: 100_000 };

function planOf(quota: TenantQuota): QuotaPlan {
  return { accounts: new Map([['main', ACCOUNT]]), tenants: new Map([['main', new Map([['a', quota]])]]) };
}

/** Virtual time passes, and what became due has been dealt with. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  clock.advance(ms);
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function worldOf(quota: Pick<TenantQuota, 'rate' | 'burst'>, observed: boolean) {
  const clock = new ManualClock();
  const plan = planOf({ ...quota, weight: 1, reserved: 0, maxWaitMs: 0, observed });
  const store = (its: QuotaPlan) =>
    createMemoryQuotaStore({ clock, plan: its, meter: quiet as Meter, log: quiet as Log });
  const [enforced, predicting] = [store(enforcedPlan(plan)), store(observedPlan(plan))];
  const queueOf = (quotaStore: typeof enforced): AdmissionQueue => createAdmissionQueue({ quotaStore, clock });
  const [queue, observedQueue] = [queueOf(enforced), queueOf(predicting)];
  /** By request, in their order: the code with which it was, or would have been, rejected. */
  const codes: (string | null)[] = [];
  const send = async (maxWaitMs: number, end: (slot: Slot) => void, urgency = 3) => {
    const index = codes.push(null) - 1;
    const request = { account: 'main', tenant: 'a', maxWaitMs, urgency, disconnect: NEVER_DISCONNECTS };
    const admit = () => queue.enter(request);
    const note = (code: string) => {
      codes[index] = code;
    };
    const admission = observed ? await admitObserved(admit, observedQueue, request, note) : await admit();
    if (admission.kind === 'admitted') end(admission.slot);
    else if (admission.kind === 'rejected') note(admission.timedOut ? 'queue_timeout' : 'tenant_quota');
  };
  const view = observingQuotaStore(enforced, predicting, plan);
  return { clock, codes, send, peek: () => view.peek('main', 'a') };
}

const step = fc.record({
  waitMs: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 20_000 })),
  requests: fc.integer({ min: 1, max: 12 }),
  maxWaitMs: fc.constantFrom(0, 0, 700, 5_000),
  // Urgent requests make others wait in vain.
  urgency: fc.constantFrom(3, 3, 0, 7),
  end: fc.constantFrom('complete', 'complete', 'complete', 'refund'),
});

describe('a tenant that is observed', () => {
  test('is predicted to be rejected exactly when it would be: the same requests, enforced and observed', async () => {
    const seen: string[] = [];
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 40, size: 'max' }),
        fc.record({ rate: fc.integer({ min: 6, max: 600 }), burst: fc.integer({ min: 1, max: 10 }) }),
        async (steps, quota) => {
          const results = [];
          for (const observed of [false, true]) {
            const { clock, codes, send } = worldOf(quota, observed);
            // The first response of new state.
            await send(0, (slot) => slot.complete(NOTHING_SEEN));
            await pass(clock, 61_000);
            for (const { waitMs, requests, maxWaitMs, urgency, end } of steps) {
              // In small steps, as timers of a waiter that asks again move on.
              for (let left = waitMs; left > 0; left -= 100) await pass(clock, Math.min(100, left));
              // A request that waits would be refunded later where it really waits.
              const refunds = end === 'refund' && maxWaitMs === 0;
              const ended = (slot: Slot) =>
                void clock.after(50, () => (refunds ? slot.refund() : slot.complete(NOTHING_SEEN)));
              for (let i = 0; i < requests; i++) void send(maxWaitMs, ended, urgency);
              await pass(clock, 0);
            }
            for (let left = 6_000; left > 0; left -= 100) await pass(clock, 100);
            results.push(codes);
          }
          const [real, predicted] = results;
          expect(predicted).toEqual(real);
          seen.push(...(real ?? []).filter((code) => code !== null));
        },
      ),
      { numRuns: 25 },
    );
    expect(seen.length).toBeGreaterThan(100);
    expect(new Set(seen)).toEqual(new Set(['tenant_quota', 'queue_timeout']));
  }, 120_000);

  test('is rejected by nothing, and sees what would be left', async () => {
    const { clock, codes, send, peek } = worldOf({ rate: 6, burst: 3 }, true);
    await send(0, (slot) => slot.complete(NOTHING_SEEN));
    await pass(clock, 61_000);
    const sent: Slot[] = [];
    for (let i = 0; i < 20; i++) await send(0, (slot) => void sent.push(slot));
    expect(sent).toHaveLength(20);
    expect(codes.slice(1).map((code) => code === null)).toEqual([true, true, true, ...Array(17).fill(false)]);
    expect(peek()).toMatchObject({ limit: 6, burst: 3, remaining: 0 });
    // The token of a request that never left is back.
    sent[0]?.refund();
    expect(peek().remaining).toBe(1);
  });
});
