import type { Clock } from '../../../clock.ts';

/** An answer that comes this soon was not held up. */
const PROMPT_MS = 80;

/** Redis' time as far as it is known here: by the latest reply, and this process's own clock since. */
export class ServerClock {
  readonly #clock: Clock;
  /** Redis' time at the latest reply, and when its question was sent. */
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

  /** Told with a reply that took the question for timely. */
  heard(now: number, askedAt: number): void {
    this.set(now, askedAt);
    this.#leapt = false;
  }

  /** Told with a reply that did not. */
  set(now: number, askedAt: number): void {
    this.#known = { now, askedAt };
  }

  /** Told that it is later than it can be. If the answer came at once, it was not the way that was long. */
  late(askedAt: number): void {
    if (this.#clock.monotonic() - askedAt < PROMPT_MS) this.#leapt = true;
  }
}
