/** Where a 429 does not say how long. */
const UNTOLD_MS = 10_000;
const LONGEST_UNTOLD_MS = 60_000;
/** An upstream that rounds down says 0 in the last second of its window (docs/failure-modes.md#upstream_cooldown). */
const SHORTEST_TOLD_MS = 1_000;
/** What tells of less than that holds this part of what one that does not tell would: a second, doubling to six. */
const VAGUE_PART = 10;
/** A longer Retry-After is not believed: a broken header must not stop a team for a day. */
const LONGEST_TOLD_MS = 3_600_000;

const NEVER = -1;

/** Whether it does not say when to come again: upstream that refuses with 0 again and again would be asked as often. */
const isVague = (retryAfterMs: number | null): boolean => retryAfterMs === null || retryAfterMs < SHORTEST_TOLD_MS;

/** How long a 429 holds an account. `untoldMs`: what one without Retry-After holds it now. As in complete.lua. */
export function holdAfter(retryAfterMs: number | null, untoldMs = UNTOLD_MS): number {
  if (retryAfterMs === null) return untoldMs;
  return isVague(retryAfterMs) ? untoldMs / VAGUE_PART : Math.min(retryAfterMs, LONGEST_TOLD_MS);
}

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
    if (isVague(retryAfterMs) && this.#since !== NEVER && admittedAt > this.#since) {
      this.#untold = Math.min(this.#untold * 2, LONGEST_UNTOLD_MS);
    }
    this.#since = now;
    this.#until = Math.max(this.#until, now + holdAfter(retryAfterMs, this.#untold));
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
