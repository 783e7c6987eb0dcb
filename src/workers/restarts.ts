import type { Clock, MonotonicMs } from '../clock.ts';

export type Verdict =
  | { readonly kind: 'again'; readonly afterMs: number }
  /** They end as fast as they are started: what ends them is not chance. */
  | { readonly kind: 'give up'; readonly ends: number; readonly withinMs: number };

/** Of all workers together. A poisonous request that is repeated at once takes them all down within seconds; a fault a day does not. */
export const MOST_ENDS = 10;
export const WITHIN_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** Whether a worker that ended by itself is started again, and after which pause: twice as long for each in the last minute. */
export function createRestarts(clock: Clock): { ended(id: number): Verdict } {
  let ends: { readonly id: number; readonly at: MonotonicMs }[] = [];
  return {
    ended(id) {
      const now = clock.monotonic();
      ends = [...ends.filter(({ at }) => now - at < WITHIN_MS), { id, at: now }];
      if (ends.length >= MOST_ENDS) return { kind: 'give up', ends: ends.length, withinMs: WITHIN_MS };
      const before = ends.filter((each) => each.id === id).length - 1;
      return { kind: 'again', afterMs: Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** before) };
    },
  };
}
