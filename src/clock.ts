/** Milliseconds since the Unix epoch. Branded, because a monotonic reading must never be compared with it. */
export type EpochMs = number & { readonly __unit: 'epoch-ms' };

/** Milliseconds of a clock that only goes forward; its zero means nothing. */
export type MonotonicMs = number & { readonly __unit: 'monotonic-ms' };

/** Time as an argument, so that tests can move it. */
export interface Clock {
  /** Wall time: for dates that leave the process (expiry, `Age`, logs). It can be stepped. */
  now(): EpochMs;
  /** For durations and for everything a guarantee rests on: a stepped wall clock must not open the window early. */
  monotonic(): MonotonicMs;
  /**
   * Calls `run` once, no earlier than `delayMs` from now, and returns the cancellation.
   * The timer does not keep the process alive.
   */
  after(delayMs: number, run: () => void): () => void;
}

/** Chance as an argument: 0 ≤ x < 1. */
export type Random = () => number;

export const systemClock: Clock = {
  now: () => Date.now() as EpochMs,
  monotonic: () => performance.now() as MonotonicMs,
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Runs again and again, `everyMs` after the end of the run before, until the returned function is called. */
export function every(clock: Clock, everyMs: number, run: () => void): () => void {
  let cancel = clock.after(everyMs, again);
  function again(): void {
    cancel = clock.after(everyMs, again);
    run();
  }
  return () => cancel();
}

export function elapsed(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

/** The first items of a turn do not wait for a flood of a thousand behind them. */
const MAX_ITEMS = 32;

/**
 * Collects items until the end of the current turn of the event loop, when all that had arrived has been handled, and acts on them
 * in one call, in their order. An item that comes alone waits for the end of its own turn only.
 *
 * @param act receives at least one item, and must not throw
 * @param maxItems a full batch does not wait for the end of the turn
 */
export function batch<T>(act: (items: readonly T[]) => void, maxItems = MAX_ITEMS): (item: T) => void {
  let waiting: T[] = [];
  const run = (): void => {
    // Empty if the batch was full before the turn ended.
    if (waiting.length === 0) return;
    const items = waiting;
    waiting = [];
    act(items);
  };
  return (item) => {
    // setImmediate runs after the callbacks of all that has arrived, and before the loop waits for more.
    if (waiting.length === 0) setImmediate(run);
    waiting.push(item);
    if (waiting.length >= maxItems) run();
  };
}
