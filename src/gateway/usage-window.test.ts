import { expect, it } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { Usage } from '../telemetry/metrics.ts';
import { createUsageWindow } from './history.ts';

function setUp() {
  const clock = new ManualClock();
  const usages = new Map<string, Usage>();
  const recent = createUsageWindow({
    clock,
    marks: 10,
    read: () => new Map([...usages].map(([id, u]) => [id, { ...u }])),
  });
  const use = (tenant: string, requests: number, refused = 0) => {
    const known = usages.get(tenant) ?? { requests: 0, refused: 0, wouldReject: 0, saved: 0, reads: 0, hits: 0 };
    usages.set(tenant, { ...known, requests: known.requests + requests, refused: known.refused + refused });
  };
  const slices = (count: number) => {
    for (let i = 0; i < count; i++) {
      clock.advance(30_000);
      recent.advance();
    }
  };
  const requests = (tenant: string) => recent.read().byTenant.get(tenant)?.requests;
  return { clock, usages, recent, use, slices, requests };
}

it('counts what happened since the start, up to this moment, and says how long that is', () => {
  const { clock, recent, use } = setUp();
  use('billing', 5, 2);
  clock.advance(12_000);
  expect(recent.read().seconds).toBe(12);
  expect(recent.read().byTenant.get('billing')).toMatchObject({ requests: 5, refused: 2 });
});

it('forgets after five minutes, and never reaches back further', () => {
  const { recent, use, slices, requests, clock } = setUp();
  use('billing', 100);
  slices(9);
  expect(requests('billing')).toBe(100);
  use('billing', 7);
  slices(1);
  expect(requests('billing')).toBe(7);
  slices(50);
  expect(requests('billing')).toBe(0);
  clock.advance(29_999);
  expect(recent.read().seconds).toBeLessThanOrEqual(300);
  expect(recent.read().seconds).toBeGreaterThanOrEqual(270);
});

it('a tenant that was removed and came back counts from zero, never below', () => {
  const { usages, use, slices, requests } = setUp();
  use('billing', 100);
  slices(1);
  usages.delete('billing');
  use('billing', 3);
  slices(9);
  expect(requests('billing')).toBe(3);
});
