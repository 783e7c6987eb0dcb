import type { MonotonicMs } from '../clock.ts';

/** Parts of a window: what is counted leaves it up to a tenth of it early. */
const PARTS = 10;

/** Attempts and failures of the last while, in constant memory. */
export class SlidingCounts {
  readonly #partMs: number;
  readonly #totals = new Array<number>(PARTS).fill(0);
  readonly #failures = new Array<number>(PARTS).fill(0);
  /** Number of the part that is counted into, since the zero of the clock. */
  #latest = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number) {
    this.#partMs = windowMs / PARTS;
  }

  add(failed: boolean, now: MonotonicMs): void {
    const at = this.#moveTo(now) % PARTS;
    this.#totals[at] = (this.#totals[at] as number) + 1;
    if (failed) this.#failures[at] = (this.#failures[at] as number) + 1;
  }

  read(now: MonotonicMs): { readonly total: number; readonly failures: number } {
    this.#moveTo(now);
    return { total: this.#totals.reduce(sum, 0), failures: this.#failures.reduce(sum, 0) };
  }

  clear(): void {
    this.#totals.fill(0);
    this.#failures.fill(0);
  }

  /** Empties the parts that time has passed over. */
  #moveTo(now: MonotonicMs): number {
    const part = Math.floor(now / this.#partMs);
    if (part <= this.#latest) return this.#latest;
    if (part - this.#latest >= PARTS) this.clear();
    else {
      for (let each = this.#latest + 1; each <= part; each += 1) {
        this.#totals[each % PARTS] = 0;
        this.#failures[each % PARTS] = 0;
      }
    }
    this.#latest = part;
    return part;
  }
}

const sum = (a: number, b: number): number => a + b;
