import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from './clock.ts';

afterEach(() => vi.restoreAllMocks());

test('the monotonic clock does not follow when the wall clock is set, and the other one does', () => {
  const [before, monotonic] = [Date.now(), systemClock.monotonic()];
  vi.spyOn(Date, 'now').mockReturnValue(before + 3_600_000);
  expect(systemClock.now()).toBe(before + 3_600_000);
  const ahead = systemClock.monotonic();
  vi.spyOn(Date, 'now').mockReturnValue(before - 3_600_000);
  const back = systemClock.monotonic();
  expect(ahead - monotonic).toBeLessThan(1_800_000);
  expect(ahead).toBeGreaterThanOrEqual(monotonic);
  expect(back).toBeGreaterThanOrEqual(ahead);
});
