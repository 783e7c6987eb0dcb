import type { Clock, EpochMs, MonotonicMs } from '../../src/clock.ts';

/** A clock that stands still until a test moves it; timers that come due run in order while it moves. */
export class ManualClock implements Clock {
  #epoch: number;
  #monotonic = 0;
  #timers: { due: number; run: () => void }[] = [];

  constructor(startEpochMs = Date.parse('2026-11-02T09:00:00Z')) {
    this.#epoch = startEpochMs;
  }

  now(): EpochMs {
    return this.#epoch as EpochMs;
  }

  monotonic(): MonotonicMs {
    return this.#monotonic as MonotonicMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { due: this.#monotonic + Math.max(0, delayMs), run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** How many timers are waiting: a test that leaves one behind has found a leak. */
  get pending(): number {
    return this.#timers.length;
  }

  /** When the next timer is due; infinite if there is none. */
  nextDue(): number {
    return this.#timers.reduce((earliest, { due }) => Math.min(earliest, due), Number.POSITIVE_INFINITY);
  }

  advance(ms: number): void {
    const end = this.#monotonic + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.due <= end).sort((a, b) => a.due - b.due)[0];
      if (!next) break;
      this.#moveTo(Math.max(next.due, this.#monotonic));
      this.#timers = this.#timers.filter((timer) => timer !== next);
      next.run();
    }
    this.#moveTo(end);
  }

  /** A step of the wall clock alone, as an operator or NTP makes it. */
  stepWall(ms: number): void {
    this.#epoch += ms;
  }

  #moveTo(monotonic: number): void {
    this.#epoch += monotonic - this.#monotonic;
    this.#monotonic = monotonic;
  }
}
