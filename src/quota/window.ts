/** The window of the account's limit. */
export const WINDOW_MS = 60_000;

/**
 * Slots are freed in steps of this length, rounded up: so their number is kept in some 600 counters however high the
 * ceiling is. One step more makes up for a clock of Redis that was set forward by less than can be told from a slow
 * network. A slot lasts 0.15 s longer on average, 0.25 % of a window.
 */
export const BIN_MS = 100;

/**
 * The leased slots of one account. A slot is held from admission until 60 s after its answer (or after the latest moment
 * at which it may still arrive). Any arrival lies between admission and answer, so the requests that arrive within any
 * 60 s are all held at the end of these 60 s: as long as fewer than `ceiling` are held when one is admitted, no 60 s
 * upstream see more than `ceiling`.
 *
 * A slot that is neither settled nor given back is held for ever: freeing it by a timer could free it while its request
 * is still on the way. Whoever admits sees to it that each slot ends (quota.ts does, whatever happens).
 *
 * adapters/redis/scripts does the same arithmetic in Lua; a property test holds the two together. Times are whole
 * milliseconds.
 */
export class LeasedWindow {
  #inFlight = 0;
  #answered = 0;
  #everAnswered = 0;
  /** Answered slots by the step at which they are free. */
  readonly #bins = new Map<number, number>();
  /** All steps before it are over. */
  #head = Number.NEGATIVE_INFINITY;

  /** Slots held now. */
  held(now: number): number {
    this.#expire(now);
    return this.#inFlight + this.#answered;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Slots ever answered: the difference between two readings says how many were answered in between. */
  get everAnswered(): number {
    return this.#everAnswered;
  }

  /** Held slots that can have arrived after the moment at which {@link everAnswered} was `reading`. */
  heldSince(reading: number, now: number): number {
    return Math.min(this.#inFlight + this.#everAnswered - reading, this.held(now));
  }

  /**
   * Until `count` slots will have become free, as far as it is known: the answers to requests in flight are not here yet,
   * and each of them is held for a whole window after it.
   */
  freeInMs(count: number, now: number): number {
    this.#expire(now);
    if (count > this.#answered) return WINDOW_MS;
    let freed = 0;
    for (let bin = this.#head; ; bin++) {
      freed += this.#bins.get(bin) ?? 0;
      if (freed >= count) return bin * BIN_MS - now;
    }
  }

  lease(): void {
    this.#inFlight += 1;
  }

  /** Its request never left. */
  release(): void {
    this.#inFlight -= 1;
  }

  /** Its request can not arrive any more. */
  settle(now: number): void {
    this.#expire(now);
    this.#inFlight -= 1;
    this.#answered += 1;
    this.#everAnswered += 1;
    const bin = binAfterWindow(now);
    this.#bins.set(bin, (this.#bins.get(bin) ?? 0) + 1);
  }

  #expire(now: number): void {
    const present = binOf(now);
    if (this.#bins.size === 0) this.#head = Math.max(this.#head, present + 1);
    for (; this.#head <= present; this.#head++) {
      const count = this.#bins.get(this.#head);
      if (count === undefined) continue;
      this.#answered -= count;
      this.#bins.delete(this.#head);
    }
  }
}

/** The step in which what happens now is a window old. */
export function binAfterWindow(now: number): number {
  return binOf(now + WINDOW_MS) + 2;
}

/** The step a moment lies in. What was put into a step is free once the step has begun. */
export function binOf(atMs: number): number {
  return Math.floor(atMs / BIN_MS);
}
