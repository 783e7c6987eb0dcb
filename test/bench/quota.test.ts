import { expect, test } from 'vitest';
import { embeddedGateway, fixedWindow } from './quota/contestants.mjs';
import { greatestInAnyMinute, simulate } from './quota/simulate.mjs';

const course = { seed: 1, minutes: 3, latency: 'jittery', greedy: false, redis: null } as const;

test('the simulation repeats itself to the digit', async () => {
  const [one, two] = [
    await simulate({ ...course, contestant: fixedWindow(240) }),
    await simulate({ ...course, contestant: fixedWindow(240) }),
  ];
  expect(one).toEqual(two);
});

test('the simulation distinguishes a limiter that receives a 429 from a limiter that does not', async () => {
  const fixed = await simulate({ ...course, minutes: 6, contestant: fixedWindow(240) });
  const gateway = await simulate({ ...course, minutes: 6, contestant: embeddedGateway(235) });
  expect(fixed.throttledPerMinute).toBeGreaterThan(0);
  expect(fixed.greatest).toBeGreaterThan(240);
  expect(gateway.throttledPerMinute).toBe(0);
  expect(gateway.greatest).toBeLessThanOrEqual(235);
  expect(gateway.goodput).toBeGreaterThanOrEqual(235 * 0.985);
});

test('the greatest number in any 60 s is exact, and 60 s apart is apart', () => {
  expect(greatestInAnyMinute([0, 1, 59_999, 60_000, 60_001])).toBe(3);
  expect(greatestInAnyMinute([0, 60_000])).toBe(1);
});
