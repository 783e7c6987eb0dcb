import type { Clock, EpochMs, MonotonicMs } from '../clock.ts';

interface Timer {
  readonly due: number;
  /** Decides between two that are due at once: the first one that was set runs first. */
  readonly number: number;
  run: (() => void) | null;
}

/** A compaction costs as much as this many timers. */
const MIN_COMPACTION = 1_000;

/** A clock that stands still between calls of `moveTo`, which runs the timers in their order, each with all that follows from it. */
export class VirtualClock implements Clock {
  readonly #startedAt: number;
  #now: number;
  /** A binary heap by due time. */
  #timers: Timer[] = [];
  #cancelled = 0;
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
    this.#push(timer);
    return () => {
      if (timer.run === null) return;
      timer.run = null;
      this.#cancelled += 1;
      if (this.#cancelled > MIN_COMPACTION && this.#cancelled > this.#timers.length / 2) this.#compact();
    };
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.length - this.#cancelled;
  }

  /** Infinite if there is none. */
  get nextDue(): number {
    return this.#timers[0]?.due ?? Number.POSITIVE_INFINITY;
  }

  /** Moves to a time of the epoch. After each timer, everything that was waiting for it goes on before time does. */
  async moveTo(end: number): Promise<void> {
    while (this.nextDue <= end) {
      const { due, run } = this.#pop();
      if (run === null) {
        this.#cancelled -= 1;
        continue;
      }
      this.#now = due;
      run();
      await settled();
    }
    this.#now = Math.max(this.#now, end);
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let index = heap.push(timer) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(timer, heap[parent] as Timer)) break;
      heap[index] = heap[parent] as Timer;
      index = parent;
    }
    heap[index] = timer;
  }

  #pop(): Timer {
    const heap = this.#timers;
    const first = heap[0] as Timer;
    const last = heap.pop() as Timer;
    if (heap.length === 0) return first;
    let index = 0;
    for (let child = 1; child < heap.length; child = 2 * index + 1) {
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, heap[child] as Timer)) child += 1;
      if (!isBefore(heap[child] as Timer, last)) break;
      heap[index] = heap[child] as Timer;
      index = child;
    }
    heap[index] = last;
    return first;
  }

  /** Most timers are deadlines that are not met: they are cancelled long before they are due. */
  #compact(): void {
    // A sorted list is a heap.
    this.#timers = this.#timers.filter(({ run }) => run !== null).sort((a, b) => (isBefore(a, b) ? -1 : 1));
    this.#cancelled = 0;
  }
}

/** Resolves when no promise is left to go on by itself: Node runs `nextTick` after all of them. It costs no turn of the event loop. */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.due < b.due || (a.due === b.due && a.number < b.number);
}
