import type { Clock } from '../clock.ts';

/** Remembers keys for a while: the oldest are forgotten when there are too many. */
export class ExpiringSet {
  readonly #until = new Map<string, number>();
  readonly #clock: Clock;
  readonly #most: number;

  constructor(clock: Clock, most = 10_000) {
    this.#clock = clock;
    this.#most = most;
  }

  has(key: string): boolean {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (until > this.#clock.monotonic()) return true;
    this.#until.delete(key);
    return false;
  }

  add(key: string, forMs: number): void {
    this.#until.delete(key);
    this.#until.set(key, this.#clock.monotonic() + forMs);
    for (const [oldest] of this.#until) {
      if (this.#until.size <= this.#most) break;
      this.#until.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#until.delete(key);
  }
}
