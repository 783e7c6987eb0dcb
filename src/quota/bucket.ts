import type { MonotonicMs } from '../clock.ts';

/** Rounding of refills must not turn a whole token into 0.9999999: a request that waited as told would be refused. */
const EPSILON = 1e-9;

/**
 * A token bucket: holds at most `burst` tokens and gains `rate` a minute. Knows no clock; time is always the caller's,
 * and time that goes back changes nothing.
 */
export class TokenBucket {
  #perMs: number;
  #burst: number;
  #tokens: number;
  #at: MonotonicMs;

  /** @param tokens how many it holds at the start; full if left out */
  constructor(ratePerMinute: number, burst: number, now: MonotonicMs, tokens = burst) {
    this.#perMs = ratePerMinute / 60_000;
    this.#burst = burst;
    this.#tokens = Math.min(tokens, burst);
    this.#at = now;
  }

  /** Whole tokens. */
  available(now: MonotonicMs): number {
    this.#refill(now);
    return Math.floor(this.#tokens + EPSILON);
  }

  /** Only after {@link available} said there is one. */
  take(now: MonotonicMs): void {
    this.#refill(now);
    this.#tokens = Math.max(0, this.#tokens - 1);
  }

  giveBack(now: MonotonicMs): void {
    this.#refill(now);
    this.#tokens = Math.min(this.#burst, this.#tokens + 1);
  }

  /** Raises the content to `tokens`, if it is less: for what was learned, never for what was waited. */
  raiseTo(tokens: number, now: MonotonicMs): void {
    this.#refill(now);
    this.#tokens = Math.max(this.#tokens, Math.min(tokens, this.#burst));
  }

  /** Until there is a whole token; 0 if there is one. */
  nextMs(now: MonotonicMs): number {
    this.#refill(now);
    return this.#tokens + EPSILON >= 1 ? 0 : Math.ceil((1 - this.#tokens) / this.#perMs);
  }

  /** Until it is full. */
  fullMs(now: MonotonicMs): number {
    this.#refill(now);
    return Math.ceil((this.#burst - this.#tokens) / this.#perMs);
  }

  /** New limits from now on. What was spent stays spent: the distance to full is kept, but never below empty. */
  configure(ratePerMinute: number, burst: number, now: MonotonicMs): void {
    this.#refill(now);
    const spent = this.#burst - this.#tokens;
    this.#perMs = ratePerMinute / 60_000;
    this.#burst = burst;
    this.#tokens = Math.max(0, burst - spent);
  }

  #refill(now: MonotonicMs): void {
    if (now <= this.#at) return;
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }
}
