import type { MonotonicMs } from '../clock.ts';

/** Where a 429 does not say how long. */
const UNTOLD_MS = 10_000;
const LONGEST_UNTOLD_MS = 60_000;
/** A longer Retry-After is not believed: a broken header must not stop a team for a day. */
const LONGEST_TOLD_MS = 3_600_000;

/** The time upstream asked the account to wait: a later 429 may extend it, never shorten it. */
export class Hold {
  #until = Number.NEGATIVE_INFINITY;
  #since = Number.NEGATIVE_INFINITY;
  #untold = UNTOLD_MS;

  /**
   * @param retryAfterMs what upstream said, or null
   * @param admittedAt of the refused request: several that were under way together are one refusal, not a series
   */
  throttle(retryAfterMs: number | null, admittedAt: MonotonicMs, now: MonotonicMs): void {
    let holdMs: number;
    if (retryAfterMs !== null) holdMs = Math.min(retryAfterMs, LONGEST_TOLD_MS);
    else {
      if (admittedAt > this.#since && this.#since !== Number.NEGATIVE_INFINITY) {
        this.#untold = Math.min(this.#untold * 2, LONGEST_UNTOLD_MS);
      }
      holdMs = this.#untold;
    }
    this.#since = now;
    this.#until = Math.max(this.#until, now + holdMs);
  }

  /** An answer that was no 429. */
  answered(admittedAt: MonotonicMs): void {
    if (admittedAt <= this.#since) return;
    this.#untold = UNTOLD_MS;
    this.#since = Number.NEGATIVE_INFINITY;
  }

  heldForMs(now: MonotonicMs): number {
    return Math.max(0, this.#until - now);
  }
}
