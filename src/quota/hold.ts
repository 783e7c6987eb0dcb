/** Where a 429 does not say how long. */
export const UNTOLD_MS = 10_000;
export const LONGEST_UNTOLD_MS = 60_000;
/** A longer Retry-After is not believed: a broken header must not stop a team for a day. */
export const LONGEST_TOLD_MS = 3_600_000;

const NEVER = -1;

/** The time upstream asked the account to wait: a later 429 may extend it, never shorten it. Times are whole milliseconds. */
export class Hold {
  #until = 0;
  /** When the latest refusal came; {@link NEVER} since an answer that was none. */
  #since = NEVER;
  #untold = UNTOLD_MS;

  /**
   * @param retryAfterMs what upstream said, or null
   * @param admittedAt of the refused request: several that were under way together are one refusal, not a series
   */
  throttle(retryAfterMs: number | null, admittedAt: number, now: number): void {
    let holdMs: number;
    if (retryAfterMs !== null) holdMs = Math.min(retryAfterMs, LONGEST_TOLD_MS);
    else {
      if (this.#since !== NEVER && admittedAt > this.#since)
        this.#untold = Math.min(this.#untold * 2, LONGEST_UNTOLD_MS);
      holdMs = this.#untold;
    }
    this.#since = now;
    this.#until = Math.max(this.#until, now + holdMs);
  }

  /** An answer that was no 429. */
  answered(admittedAt: number): void {
    if (admittedAt <= this.#since) return;
    this.#untold = UNTOLD_MS;
    this.#since = NEVER;
  }

  heldForMs(now: number): number {
    return Math.max(0, this.#until - now);
  }
}
