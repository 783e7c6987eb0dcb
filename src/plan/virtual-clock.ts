import type { Clock, EpochMs, MonotonicMs } from '../clock.ts';

interface Timer {
  readonly due: number;
  /** Decides between two that are due at once: the first one that was set runs first. */
  readonly number: number;
  readonly run: () => void;
}

/** A clock that stands still between calls of `moveTo`, which runs the timers in their order, each with all that follows from it. */
export class VirtualClock implements Clock {
  readonly #startedAt: number;
  #now: number;
  /** From the latest to the earliest. */
  readonly #timers: Timer[] = [];
  #numbered = 0;

  constructor(startsAtMs: number) {
    this.#startedAt = startsAtMs;
    this.#now = startsAtMs;
  }

  now(): EpochMs {
    return this.#now as EpochMs;
  }

  monotonic(): MonotonicMs {
    return (this.#now - this.#startedAt) as MonotonicMs;
  }

  after(delayMs: number, run: () => void): () => void {
    return this.at(this.#now + delayMs, run);
  }

  /** @param due in milliseconds of the epoch; a time that has passed is now */
  at(due: number, run: () => void): () => void {
    const timer: Timer = { due: Math.max(due, this.#now), number: this.#numbered++, run };
    this.#timers.splice(this.#placeOf(timer), 0, timer);
    return () => {
      const place = this.#placeOf(timer);
      if (this.#timers[place] === timer) this.#timers.splice(place, 1);
    };
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Infinite if there is none. */
  get nextDue(): number {
    return this.#timers.at(-1)?.due ?? Number.POSITIVE_INFINITY;
  }

  /** Moves to a time of the epoch. After each timer, everything that was waiting for it goes on before time does. */
  async moveTo(end: number): Promise<void> {
    while (this.nextDue <= end) {
      const { due, run } = this.#timers.pop() as Timer;
      this.#now = due;
      run();
      await settled();
    }
    this.#now = Math.max(this.#now, end);
  }

  /** Behind all later ones. */
  #placeOf(timer: Timer): number {
    let [from, to] = [0, this.#timers.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (isBefore(timer, this.#timers[middle] as Timer)) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

/** Resolves when no promise is left to go on by itself: Node runs `nextTick` after all of them. It costs no turn of the event loop. */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.due < b.due || (a.due === b.due && a.number < b.number);
}
