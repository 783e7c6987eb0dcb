/** The window of the account's limit. */
export const WINDOW_MS = 60_000;
/** The clock of Redis may be set forward by so little without notice (common.lua). */
const CLOCK_SLACK_MS = 100;
/** A slot is held this long after the response, or after the latest moment at which the request may still arrive. */
export const LEASE_MS = WINDOW_MS + CLOCK_SLACK_MS;

/**
 * The leased slots of one account. A slot is held from admission until {@link LEASE_MS} after its response. Any arrival lies
 * between admission and response, so the requests that arrive within any 60 s are all held at the end of these 60 s: as
 * long as fewer than `ceiling` are held when one is admitted, no 60 s of the upstream see more than `ceiling`.
 *
 * A slot that is neither completed nor given back is held for ever: a timer could free it while its request is still on the
 * way. The rate limit (rate-limit.ts) ends each slot, whatever happens.
 *
 * The scripts of adapters/redis keep the same in a sorted set; a property test holds the two together. Times are whole
 * milliseconds and do not go back.
 */
export class LeaseWindow {
  #inFlight = 0;
  #everCompleted = 0;
  /** When each completed slot is free, in ascending order. Those before `#first` are free already. */
  #expiries: number[] = [];
  #first = 0;

  /** Slots held now. */
  held(now: number): number {
    this.#expire(now);
    return this.#inFlight + this.completed;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Slots ever completed: the difference between two readings is how many were completed in between. */
  get everCompleted(): number {
    return this.#everCompleted;
  }

  /** Slots that were ever free again. */
  freed(now: number): number {
    this.#expire(now);
    return this.#everCompleted - this.completed;
  }

  /** Slots held at some time since `freed` of them were free again, or now. */
  presentSince(freed: number, now: number): number {
    return Math.max(this.held(now), this.#inFlight + this.#everCompleted - freed);
  }

  /** Held slots whose request can have arrived after the moment at which {@link everCompleted} was `reading`. */
  admittedAfter(reading: number): number {
    return this.#inFlight + this.#everCompleted - reading;
  }

  /**
   * Until `count` more slots are free, as far as it is known: the responses to requests in flight are not here yet, and each
   * of them is held for a whole window after it.
   */
  freeInMs(count: number, now: number): number {
    this.#expire(now);
    if (count > this.completed) return WINDOW_MS;
    return this.expiryAt(count - 1) - now;
  }

  lease(): void {
    this.#inFlight += 1;
  }

  /** Its request never left. */
  release(): void {
    this.#inFlight -= 1;
  }

  /** Its request cannot arrive any more. */
  complete(now: number): void {
    this.#expire(now);
    this.#inFlight -= 1;
    this.#everCompleted += 1;
    this.#expiries.push(now + LEASE_MS);
  }

  /** Completed slots that are still held, as of the latest call with a time. */
  get completed(): number {
    return this.#expiries.length - this.#first;
  }

  /** When the completed slot of this index, from 0, is free. */
  expiryAt(index: number): number {
    return this.#expiries[this.#first + index] as number;
  }

  #expire(now: number): void {
    while (this.#first < this.#expiries.length && (this.#expiries[this.#first] as number) <= now) this.#first += 1;
    // The list is cut when half of it is free, not for each slot.
    if (this.#first * 2 < this.#expiries.length) return;
    this.#expiries.splice(0, this.#first);
    this.#first = 0;
  }
}
