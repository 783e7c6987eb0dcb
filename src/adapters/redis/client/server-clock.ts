import type { Clock } from '../../../clock.ts';

/** A reply that comes this soon was not delayed on its way. */
const PROMPT_MS = 80;

/** Redis' time as far as it is known here: by the latest reply, and this process's own clock since. */
export class ServerClock {
  readonly #clock: Clock;
  /** Redis' time in the latest reply, and when its request was sent. */
  #known = { now: 0, askedAt: 0 };
  #leapt = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The server's clock was set forward. */
  get leapt(): boolean {
    return this.#leapt;
  }

  /** No earlier than the time at Redis now. */
  now(): number {
    return this.#known.now + (this.#clock.monotonic() - this.#known.askedAt);
  }

  /** For the scripts: the latest it can be there, -1 while nothing is known. */
  latest(): number {
    return this.#known.now === 0 ? -1 : Math.ceil(this.now());
  }

  /** For a reply to a request that was in time. */
  heard(now: number, askedAt: number): void {
    this.set(now, askedAt);
    this.#leapt = false;
  }

  /** For a reply that only tells the time. */
  set(now: number, askedAt: number): void {
    this.#known = { now, askedAt };
  }

  /** The server's time was later than it can be. If the reply came at once, the request was not delayed: the clock leapt. */
  late(askedAt: number): void {
    if (this.#clock.monotonic() - askedAt < PROMPT_MS) this.#leapt = true;
  }
}
