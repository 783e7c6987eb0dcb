import type { Clock, EpochMs, MonotonicMs } from '../../src/clock.ts';

/** A clock on which minutes pass in seconds, for what only time can show. Gateway and simulator must share it. */
export function fastClock(factor: number): Clock {
  const startedAt = performance.now();
  const epoch = Date.now();
  const passed = (): number => (performance.now() - startedAt) * factor;
  return {
    now: () => Math.floor(epoch + passed()) as EpochMs,
    monotonic: () => passed() as MonotonicMs,
    after: (delayMs, run) => {
      const timer = setTimeout(run, delayMs / factor);
      timer.unref();
      return () => clearTimeout(timer);
    },
  };
}
