import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { capacityOf, fallbackShare, goodputAt } from './capacity.ts';
import type { TenantQuota } from './quota-store.ts';

const quota = (more: Partial<TenantQuota> = {}): TenantQuota => ({
  rate: 235,
  burst: 20,
  weight: 1,
  reserved: 0,
  maxWaitMs: 0,
  ...more,
});
const shares = (tenants: Record<string, TenantQuota>, ceiling = 240) =>
  Object.fromEntries(
    [...capacityOf({ limit: 300, ceiling, burst: 60 }, new Map(Object.entries(tenants))).shares].map(([id, share]) => [
      id,
      Math.round(share * 1e6) / 1e6,
    ]),
  );

describe('the share of each when all want more than there is', () => {
  test('is by weight', () => {
    expect(shares({ a: quota(), b: quota({ weight: 3 }) })).toEqual({ a: 60, b: 180 });
  });
  test('leaves what one may not use to the others', () => {
    expect(shares({ a: quota({ rate: 30 }), b: quota(), c: quota() })).toEqual({ a: 30, b: 105, c: 105 });
  });
  test('is never less than the reserved rate', () => {
    expect(shares({ a: quota({ reserved: 120 }), b: quota(), c: quota() })).toEqual({ a: 120, b: 60, c: 60 });
  });
  test('adds up to no more than the ceiling, and wastes nothing', () => {
    const tenant = fc.record({
      rate: fc.integer({ min: 1, max: 400 }),
      burst: fc.constant(1),
      weight: fc.integer({ min: 1, max: 9 }),
      reserved: fc.integer({ min: 0, max: 40 }),
      maxWaitMs: fc.constant(0),
    });
    fc.assert(
      fc.property(fc.array(tenant, { minLength: 1, maxLength: 6 }), (list) => {
        const tenants = new Map(list.map((each, i) => [`t${i}`, each]));
        const { shares: given, rates } = capacityOf({ limit: 300, ceiling: 240, burst: 60 }, tenants);
        const total = [...given.values()].reduce((sum, each) => sum + each, 0);
        expect(total).toBeLessThanOrEqual(240 + 1e-6);
        expect(total).toBeGreaterThanOrEqual(Math.min(240, rates) - 1e-6);
        for (const [id, each] of tenants) expect(given.get(id)).toBeLessThanOrEqual(each.rate + 1e-6);
      }),
    );
  });
});

test('goodput falls with latency, and a share is rounded down', () => {
  expect(goodputAt(235, 0)).toBeCloseTo(234.6, 1);
  expect(goodputAt(235, 60_000)).toBeCloseTo(117.4, 1);
  expect([1, 2, 3].map((replicas) => fallbackShare(235, replicas))).toEqual([235, 117, 78]);
});
