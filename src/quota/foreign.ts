import { type LeasedWindow, WINDOW_MS } from './window.ts';

/** What one answer showed. Times are whole milliseconds. */
export interface Sighting {
  /** What upstream has counted, this request included. */
  readonly used: number;
  readonly remaining: number;
  readonly admittedAt: number;
  /** {@link LeasedWindow.everAnswered} when it was admitted. */
  readonly answeredBefore: number;
}

/**
 * Use of the account by others, as far as `X-RateLimit-Remaining` shows it.
 *
 * Upstream counts in a fixed window of 60 s. Of what it has counted (`limit − remaining`), at most as many can be ours as
 * we hold slots that may have arrived in that window; the rest is foreign for certain. The estimate errs downwards only:
 * without foreign use it is 0 whatever the latency, so nothing is lost. Once foreign use is certain, what is left is
 * believed to the letter: no more is in flight than `remaining` was.
 *
 * Within one upstream window foreign use only grows, so the greatest estimate stands until the window must have ended:
 * 60 s after the observation at the latest, or when `remaining` has risen in a way that reordering can not explain.
 */
export class ForeignUse {
  #foreign = 0;
  #remaining = Number.POSITIVE_INFINITY;
  #until = Number.NEGATIVE_INFINITY;
  /** The greatest use seen in the present upstream window, and when the request that showed it was admitted and answered. */
  #used = 0;
  #usedAdmittedAt = Number.NEGATIVE_INFINITY;
  #usedAnsweredBefore = 0;
  #usedAnsweredAt = Number.POSITIVE_INFINITY;
  /**
   * The present upstream window opened between these two. What was answered before the first is not counted in it; what
   * was admitted before the second may have been counted in the one before.
   */
  #openedAfter = 0;
  #openedBefore = Number.NEGATIVE_INFINITY;

  /** @param window with the request's own slot still in flight */
  observe(seen: Sighting, window: LeasedWindow, now: number): void {
    const { used, remaining } = seen;
    // Within one window the count only grows. Answers overtake each other; but what was sent after the answer with the
    // greatest count had arrived was counted after it, and if its count is no greater, a new window has begun.
    if (seen.admittedAt > this.#usedAnsweredAt && used <= this.#used) {
      this.#openedAfter = this.#usedAnsweredBefore;
      this.#openedBefore = now;
      this.#used = 0;
      this.#clear();
    }
    if (used >= this.#used || now - this.#usedAdmittedAt > WINDOW_MS) {
      this.#used = used;
      this.#usedAdmittedAt = seen.admittedAt;
      this.#usedAnsweredBefore = seen.answeredBefore;
      this.#usedAnsweredAt = now;
    }
    if (now >= this.#until) this.#clear();
    const straggler = seen.admittedAt < this.#openedBefore;
    const own = straggler ? window.held(now) : window.heldSince(this.#openedAfter, now);
    const foreign = Math.max(0, used - own);
    if (foreign === 0 && this.#foreign === 0) return;
    this.#remaining = Math.min(this.#remaining, remaining);
    if (foreign >= this.#foreign) {
      this.#foreign = foreign;
      this.#until = now + WINDOW_MS;
    }
  }

  /** Slots that others hold. */
  slots(now: number): number {
    return now < this.#until ? this.#foreign : 0;
  }

  /** How many requests may be in flight together; infinite while nothing foreign is known. */
  left(now: number): number {
    return now < this.#until ? this.#remaining : Number.POSITIVE_INFINITY;
  }

  /** Until the estimate no longer stands. */
  passesInMs(now: number): number {
    return Math.max(0, this.#until - now);
  }

  #clear(): void {
    this.#foreign = 0;
    this.#remaining = Number.POSITIVE_INFINITY;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
