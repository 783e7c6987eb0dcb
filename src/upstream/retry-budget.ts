import type { MonotonicMs } from '../clock.ts';

/** A burst of failures may be met with this many retries at most. */
export const LARGEST_BUDGET = 10;
/** Where there is hardly any traffic, a share of it would allow none: as much as one request may use. */
export const LEAST_BUDGET = 2;
/** How long it takes until one who has used it up has the least again. */
export const LEAST_AFTER_MS = 10_000;

/**
 * Retries as a share of what is sent, a token bucket that requests fill: an upstream that fails everything gets that much more
 * to do and no more, where two retries each would be three times as much.
 */
export class RetryBudget {
  #share: number;
  #tokens = LEAST_BUDGET;
  #emptyAt: MonotonicMs | null = null;

  /** @param percent of the requests */
  constructor(percent: number) {
    this.#share = percent / 100;
  }

  configure(percent: number): void {
    this.#share = percent / 100;
  }

  /** A request was sent for the first time. */
  deposit(): void {
    this.#tokens = Math.min(LARGEST_BUDGET, this.#tokens + this.#share);
  }

  take(now: MonotonicMs): boolean {
    if (this.#share === 0) return false;
    if (this.#emptyAt !== null && now - this.#emptyAt >= LEAST_AFTER_MS) {
      this.#tokens = Math.max(LEAST_BUDGET, this.#tokens);
      this.#emptyAt = null;
    }
    // What a tenth ten times over is, is a little less than one.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens = Math.max(0, this.#tokens - 1);
    if (this.#tokens < 1 - 1e-9) this.#emptyAt = now;
    return true;
  }
}
