/** Tokens are counted in millionths: in whole numbers, Lua and JavaScript come to the same result to the last digit. */
export const TOKEN = 1_000_000;

interface BucketSize {
  /** Tokens a minute. */
  readonly rate: number;
  readonly burst: number;
}

/**
 * A token bucket: holds at most `burst` tokens and gains `rate` a minute. It stores how much was spent, and as of when,
 * so a look at it changes nothing. Time is the caller's, in whole milliseconds; time that goes back changes nothing.
 */
export class TokenBucket {
  #size: BucketSize;
  #spent: number;
  #at: number;

  /** @param tokens how many it holds at the start; full if left out */
  constructor(size: BucketSize, now: number, tokens = size.burst) {
    this.#size = size;
    this.#spent = (size.burst - Math.min(tokens, size.burst)) * TOKEN;
    this.#at = now;
  }

  static withSpent(size: BucketSize, spent: number, now: number): TokenBucket {
    const bucket = new TokenBucket(size, now);
    bucket.#spent = spent;
    return bucket;
  }

  /** Millionths of a token missing to full. */
  spent(now: number): number {
    const elapsed = Math.max(0, now - this.#at);
    const spent = Math.max(0, this.#spent - refilled(elapsed, this.#size.rate));
    return Math.min(spent, this.#size.burst * TOKEN);
  }

  /** Whole tokens. */
  available(now: number): number {
    return Math.floor((this.#size.burst * TOKEN - this.spent(now)) / TOKEN);
  }

  /** Takes one if there is one, else what is left. */
  take(now: number): void {
    this.#set(Math.min(this.spent(now) + TOKEN, this.#size.burst * TOKEN), now);
  }

  /** Until now it has gained nothing. */
  skip(now: number): void {
    this.#at = Math.max(this.#at, now);
  }

  giveBack(now: number): void {
    this.#set(Math.max(0, this.spent(now) - TOKEN), now);
  }

  /** Raises the content to `tokens`, if it is less. */
  raiseTo(tokens: number, now: number): void {
    const { burst } = this.#size;
    this.#set(Math.min(this.spent(now), (burst - Math.max(0, Math.min(tokens, burst))) * TOKEN), now);
  }

  /** Until it holds `tokens`, more than fit into it included: then until as many will have been gained. */
  waitMs(tokens: number, now: number): number {
    return waitFor(this.spent(now), tokens, this.#size);
  }

  /** Until it is full. */
  fullMs(now: number): number {
    return waitFor(this.spent(now), this.#size.burst, this.#size);
  }

  /** A new size from now on: spent tokens stay spent, and tokens until now were gained at the old rate. */
  configure(size: BucketSize, now: number): void {
    const { rate } = this.#size;
    this.#size = { rate, burst: size.burst };
    if (size.rate !== rate) this.#set(this.spent(now), now);
    this.#size = size;
  }

  #set(spent: number, now: number): void {
    this.#spent = spent;
    this.#at = Math.max(this.#at, now);
  }
}

/** Millionths gained in a time, rounded down. */
export function refilled(elapsedMs: number, rate: number): number {
  return Math.floor((elapsedMs * rate * 50) / 3);
}

/** Until a bucket from which `spent` millionths are missing holds `tokens`. Not a millisecond too early. */
export function waitFor(spent: number, tokens: number, { rate, burst }: BucketSize): number {
  const missing = spent - (burst - tokens) * TOKEN;
  if (missing <= 0) return 0;
  const ms = Math.ceil((missing * 3) / (rate * 50));
  return refilled(ms, rate) < missing ? ms + 1 : ms;
}
