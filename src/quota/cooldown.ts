/** For a 429 without a Retry-After. */
const UNTOLD_MS = 10_000;
const MAX_UNTOLD_MS = 60_000;
/** An upstream that rounds down says 0 in the last second of its window (docs/failure-modes.md#upstream_cooldown). */
const MIN_TOLD_MS = 1_000;
/** A Retry-After below that counts for this part of a missing one: a second, doubling to six. */
const VAGUE_PART = 10;
/** A longer Retry-After is not believed: a broken header must not stop a team for a day. */
const MAX_TOLD_MS = 3_600_000;

const NEVER = -1;

/** An upstream that says 0 again and again would be asked as often. */
const isVague = (retryAfterMs: number | null): boolean => retryAfterMs === null || retryAfterMs < MIN_TOLD_MS;

/** Length of the cooldown after a 429; `untoldMs` after one without a Retry-After. As in complete.lua. */
export function cooldownAfter(retryAfterMs: number | null, untoldMs = UNTOLD_MS): number {
  if (retryAfterMs === null) return untoldMs;
  return isVague(retryAfterMs) ? untoldMs / VAGUE_PART : Math.min(retryAfterMs, MAX_TOLD_MS);
}

/** The time without sending after a 429: a later 429 may extend it, never shorten it. Times are whole milliseconds. */
export class Cooldown {
  #until = 0;
  /** When the latest 429 came; {@link NEVER} since another response. */
  #throttledAt = NEVER;
  #untoldMs = UNTOLD_MS;

  /**
   * @param retryAfterMs as the upstream said, or null
   * @param admittedAt of the throttled request: several that were under way together are one 429, not a series
   */
  throttled(retryAfterMs: number | null, admittedAt: number, now: number): void {
    if (isVague(retryAfterMs) && this.#throttledAt !== NEVER && admittedAt > this.#throttledAt) {
      this.#untoldMs = Math.min(this.#untoldMs * 2, MAX_UNTOLD_MS);
    }
    this.#throttledAt = now;
    this.#until = Math.max(this.#until, now + cooldownAfter(retryAfterMs, this.#untoldMs));
  }

  /** A response that was no 429. */
  responded(admittedAt: number): void {
    if (admittedAt <= this.#throttledAt) return;
    this.#untoldMs = UNTOLD_MS;
    this.#throttledAt = NEVER;
  }

  leftMs(now: number): number {
    return Math.max(0, this.#until - now);
  }
}
