import type { MonotonicMs } from '../clock.ts';

/** The window of the account's limit. */
export const WINDOW_MS = 60_000;

/** When the head of the queue has moved this far, the array behind it is cut. */
const COMPACT_AT = 1024;

/**
 * The leased slots of one account. A slot is held from admission until 60 s after its answer (or after the latest moment
 * at which it may still arrive). Any arrival lies between admission and answer, so the requests that arrive within any
 * 60 s are all held at the end of these 60 s: as long as fewer than `ceiling` are held when one is admitted, no 60 s
 * upstream see more than `ceiling`.
 *
 * A slot that is neither settled, lost nor given back is held for ever: freeing it by a timer could free it while its
 * request is still on the way. Whoever admits sees to it that each slot ends (quota.ts does, whatever happens).
 */
export class LeasedWindow {
  #inFlight = 0;
  /** When each answered slot is free, ascending from `#head` on. Answers come nearly in order: inserting is cheap. */
  #freeAt: number[] = [];
  #head = 0;

  /** Slots held now. */
  held(now: MonotonicMs): number {
    this.#expire(now);
    return this.#inFlight + this.#freeAt.length - this.#head;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Slots in flight, or answered at or after `since`: all that can have arrived after it. */
  heldSince(since: MonotonicMs, now: MonotonicMs): number {
    this.#expire(now);
    let low = this.#head;
    let high = this.#freeAt.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#freeAt[middle] as number) < since + WINDOW_MS) low = middle + 1;
      else high = middle;
    }
    return this.#inFlight + this.#freeAt.length - low;
  }

  /**
   * Until `count` slots will have become free, as far as it is known: the answers to requests in flight are not here yet,
   * and each of them is held for a whole window after it.
   */
  freeInMs(count: number, now: MonotonicMs): number {
    this.#expire(now);
    const at = this.#freeAt[this.#head + count - 1];
    return at === undefined ? WINDOW_MS : at - now;
  }

  lease(): void {
    this.#inFlight += 1;
  }

  /** Its request never left. */
  release(): void {
    this.#inFlight -= 1;
  }

  /** Its request can not arrive after `latestArrival`. */
  settle(latestArrival: MonotonicMs): void {
    this.#inFlight -= 1;
    const freeAt = latestArrival + WINDOW_MS;
    let index = this.#freeAt.length;
    while (index > this.#head && (this.#freeAt[index - 1] as number) > freeAt) index--;
    if (index === this.#freeAt.length) this.#freeAt.push(freeAt);
    else this.#freeAt.splice(index, 0, freeAt);
  }

  #expire(now: MonotonicMs): void {
    while (this.#head < this.#freeAt.length && (this.#freeAt[this.#head] as number) <= now) this.#head++;
    if (this.#head >= COMPACT_AT && this.#head * 2 >= this.#freeAt.length) {
      this.#freeAt = this.#freeAt.slice(this.#head);
      this.#head = 0;
    }
  }
}
