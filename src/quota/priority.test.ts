import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import { NEVER_DISCONNECTS } from '../context.ts';
import type { Log, Meter } from '../ports.ts';
import { createAdmissionQueue } from './admission-queue.ts';
import type { TenantQuota } from './quota-store.ts';
import { urgencyOf } from './rate-limit.ts';

const quiet = new Proxy({}, { get: () => () => {} });

describe('the urgency of a request', () => {
  test.each<[string | string[] | undefined, number]>([
    [undefined, 3],
    ['u=0', 0],
    ['u=7', 7],
    ['i, u=5', 5],
    ['u=1;x=2, i=?0', 1],
    // The last one of two with the same key counts (RFC 9651 section 4.2.2).
    ['u=1, u=6', 6],
    ['', 3],
    ['i', 3],
    ['u', 3],
    ['u=8', 3],
    ['u=-1', 3],
    ['u=2.5', 3],
    ['u="0"', 3],
    ['u=(0)', 3],
    ['u=?1', 3],
    ['u=0,', 3],
    ['urgent', 3],
    ['U=0', 3],
    ['u=0; DROP TABLE', 3],
    ['\u00ffu=0', 3],
    [`u=0${' '.repeat(10_000)}x`, 3],
  ])('%j is %i', (header, urgency) => expect(urgencyOf(header)).toBe(urgency));
});

const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };

/** An account that gives a slot in each second, and has given those that an idle one has at once. */
async function busyAccount(tenants: Record<string, TenantQuota>) {
  const clock = new ManualClock();
  const account = { limit: 61, ceiling: 60, burst: 1 };
  const all = new Map(Object.entries({ ...tenants, first: ROOMY }));
  const plan = { accounts: new Map([['main', account]]), tenants: new Map([['main', all]]) };
  const store = createMemoryQuotaStore({ clock, plan, meter: quiet as Meter, log: quiet as Log });
  const queue = createAdmissionQueue({ quotaStore: store, clock });
  const log: string[] = [];
  const enter = (name: string, urgency: number, { tenant = 'a', maxWaitMs = 29_000 } = {}) => {
    const request = { account: 'main', tenant, maxWaitMs, urgency, disconnect: NEVER_DISCONNECTS };
    return queue.enter(request).then((admission) => {
      log.push(admission.kind === 'admitted' ? name : `${name} ${admission.kind}`);
      if (admission.kind === 'admitted') admission.slot.complete({ limit: null, remaining: null, throttled: null });
      return admission;
    });
  };
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 20) {
      clock.advance(Math.min(left, 20));
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  // New state sends one request alone. What has become free meanwhile is used up.
  await Promise.all([enter('', 3, { tenant: 'first' }), pass(5_000)]);
  while ((await enter('', 3, { tenant: 'first', maxWaitMs: 0 })).kind === 'admitted');
  log.length = 0;
  return { clock, enter, pass, log };
}

describe('requests of a tenant that wait', () => {
  test('are admitted by their urgency, and in their order where it is equal', async () => {
    const { enter, pass, log } = await busyAccount({ a: ROOMY });
    const all = [
      ['a', 3],
      ['b', 7],
      ['c', 0],
      ['d', 3],
      ['e', 1],
      ['f', 0],
    ] as const;
    for (const [name, urgency] of all) void enter(name, urgency);
    await pass(9_000);
    expect(log.join('')).toBe('cfeadb');
  });

  test('gain a level in each second: the least urgent one is overtaken by what comes in the seven seconds after it', async () => {
    const { enter, pass, log } = await busyAccount({ a: ROOMY });
    for (let i = 0; i < 3; i++) void enter('x', 0);
    void enter('OLD', 7);
    // More urgent ones than there are slots, without an end.
    for (let second = 0; second < 14; second++) {
      await pass(990);
      void enter(String(second), 0);
      await pass(10);
    }
    const place = log.indexOf('OLD');
    expect(place).toBeGreaterThanOrEqual(7);
    expect(place).toBeLessThanOrEqual(12);
    // The ones of the first seven seconds are before it.
    expect(log.slice(0, place).filter((each) => each !== 'x')).toEqual(
      Array.from({ length: place - 3 }, (_, i) => String(i)),
    );
    expect(place - 3).toBeLessThanOrEqual(7);
  });

  test('have a time to come back that fits their urgency, and are served at it', async () => {
    const { clock, enter, pass, log } = await busyAccount({ a: ROOMY });
    for (let i = 0; i < 6; i++) void enter('w', 3);
    await pass(20);
    const urgent = await enter('U', 0, { maxWaitMs: 100 });
    const idle = await enter('L', 7, { maxWaitMs: 100 });
    if (urgent.kind !== 'rejected' || idle.kind !== 'rejected') throw new Error('expected rejections');
    expect(urgent.retryAfterMs).toBeLessThanOrEqual(2_000);
    expect(idle.retryAfterMs).toBeGreaterThanOrEqual(6_000);
    const rejectedAt = clock.monotonic();
    await pass(urgent.retryAfterMs);
    void enter('U', 3);
    await pass(rejectedAt + idle.retryAfterMs - clock.monotonic());
    void enter('L', 7);
    await pass(1_500);
    const served = log.filter((each) => !each.includes('rejected'));
    expect(served.indexOf('U')).toBeLessThanOrEqual(2);
    expect(served).toContain('L');
  });
});

test('whatever a tenant says of its urgency, another one gets its share', async () => {
  const admitted = async (urgency: number) => {
    const { enter, pass, log } = await busyAccount({ loud: ROOMY, quiet: ROOMY });
    for (let second = 0; second < 40; second++) {
      for (let i = 0; i < 3; i++) void enter('loud', urgency, { tenant: 'loud', maxWaitMs: 5_000 });
      for (let i = 0; i < 3; i++) void enter('quiet', 3, { tenant: 'quiet', maxWaitMs: 5_000 });
      await pass(1_000);
    }
    return log.filter((each) => each === 'quiet').length;
  };
  const shares = [await admitted(3), await admitted(0), await admitted(7)];
  for (const share of shares) expect(Math.abs(share - (shares[0] as number))).toBeLessThanOrEqual(1);
});
