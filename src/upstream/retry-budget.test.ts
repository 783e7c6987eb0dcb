import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MonotonicMs } from '../clock.ts';
import { LARGEST_BUDGET, LEAST_AFTER_MS, LEAST_BUDGET, RetryBudget } from './retry-budget.ts';

const at = (ms: number) => ms as MonotonicMs;

describe('the budget of retries', () => {
  test('is a tenth of the requests, and what one request may use where there are hardly any', () => {
    const budget = new RetryBudget(10);
    expect([budget.take(at(0)), budget.take(at(0)), budget.take(at(0))]).toEqual([true, true, false]);
    for (let i = 0; i < 9; i += 1) budget.deposit();
    expect(budget.take(at(1))).toBe(false);
    budget.deposit();
    expect([budget.take(at(1)), budget.take(at(1))]).toEqual([true, false]);
    expect(budget.take(at(LEAST_AFTER_MS))).toBe(false);
    expect([0, 1, 2].map(() => budget.take(at(LEAST_AFTER_MS + 1)))).toEqual([true, true, false]);
  });

  test('of 0 allows none, and a reload changes the share', () => {
    const budget = new RetryBudget(0);
    for (let i = 0; i < 100; i += 1) budget.deposit();
    expect(budget.take(at(0))).toBe(false);
    budget.configure(50);
    expect([0, 1, 2].map(() => budget.take(at(0)))).toEqual([true, true, false]);
    budget.deposit();
    budget.deposit();
    expect(budget.take(at(0))).toBe(true);
  });

  test('is never exceeded, in any order of requests, failures and time', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant('deposit' as const) },
      { weight: 5, arbitrary: fc.constant('take' as const) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 500 }), fc.integer({ min: 1, max: 100 }), (steps, percent) => {
        const budget = new RetryBudget(percent);
        let [now, deposits, taken] = [0, 0, 0];
        for (const each of steps) {
          if (each === 'deposit') {
            budget.deposit();
            deposits += 1;
          } else if (each === 'take') taken += budget.take(at(now)) ? 1 : 0;
          else now += each;
          const least = LEAST_BUDGET * (1 + Math.floor(now / LEAST_AFTER_MS));
          expect(taken).toBeLessThanOrEqual((deposits * percent) / 100 + least + 1e-6);
        }
      }),
    );
  });

  test('lets a burst of ten through after much traffic, not more', () => {
    const budget = new RetryBudget(10);
    for (let i = 0; i < 10_000; i += 1) budget.deposit();
    let taken = 0;
    while (budget.take(at(0))) taken += 1;
    expect(taken).toBe(LARGEST_BUDGET);
  });
});
