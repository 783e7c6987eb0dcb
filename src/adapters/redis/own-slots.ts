import { WINDOW_MS } from '../../quota/window.ts';

/** How a request ended, as the settle script reads it. */
export type Ending =
  | readonly [kind: 's', admittedAt: number, answeredBefore: number, used: number, remaining: number, told: number]
  | readonly [kind: 'x']
  | readonly [kind: 'r', tenant: string, burst: number];

interface Ended {
  readonly admittedAt: number;
  /** Free from then on, and of no interest. */
  readonly freeAt: number;
  readonly ending: Ending;
}

/** Slots are freed in steps, and ours are told in milliseconds from a time that has passed when it is read. */
const SPARE_MS = 300;

/**
 * The slots of this replica, as it alone knows them for certain: what it tells a Redis that may have forgotten. Endings
 * are numbered, so that Redis takes each in once. Times are of this process's monotonic clock.
 */
export class OwnSlots {
  /** When each request in flight was admitted. */
  readonly #inFlight = new Set<{ readonly admittedAt: number }>();
  /** Numbered from `#first` on: those of the last minute, told to Redis or not. So an outage does not make them pile up. */
  #ended: Ended[] = [];
  #first = 1;
  #acknowledged = 0;
  /** Asks under way: Redis may have admitted them already. */
  asking = 0;

  begin(admittedAt: number): object {
    const slot = { admittedAt };
    this.#inFlight.add(slot);
    return slot;
  }

  end(slot: object, ending: Ending, now: number): void {
    const begun = slot as { readonly admittedAt: number };
    if (!this.#inFlight.delete(begun)) return;
    this.#prune(now);
    this.#ended.push({ admittedAt: begun.admittedAt, freeAt: now + WINDOW_MS + SPARE_MS, ending });
  }

  /** In flight, and what may be by now. */
  get present(): number {
    return this.asking + this.#inFlight.size;
  }

  /** What Redis has to count as in flight: endings it does not know included. */
  get counted(): number {
    return this.present + (this.lastNumber - this.#acknowledged);
  }

  get lastNumber(): number {
    return this.#first + this.#ended.length - 1;
  }

  /** Endings that Redis does not know yet, at most `most`. */
  untold(most: number): { readonly first: number; readonly endings: readonly Ending[] } {
    const from = this.#acknowledged + 1 - this.#first;
    return { first: this.#acknowledged + 1, endings: this.#ended.slice(from, from + most).map(({ ending }) => ending) };
  }

  acknowledge(number: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, number);
  }

  /** All endings that are still held, with the milliseconds they are held for; -1 for what is not. */
  held(now: number): { readonly first: number; readonly heldForMs: readonly number[] } {
    this.#prune(now);
    return {
      first: this.#first,
      heldForMs: this.#ended.map((each) => (isHeld(each, now) ? Math.ceil(each.freeAt - now) : -1)),
    };
  }

  /** Slots held now that were admitted at `since` or later. */
  heldSince(since: number, now: number): number {
    let count = 0;
    for (const { admittedAt } of this.#inFlight) if (admittedAt >= since) count += 1;
    for (const each of this.#ended) if (each.admittedAt >= since && isHeld(each, now)) count += 1;
    return count;
  }

  #prune(now: number): void {
    let over = 0;
    while (over < this.#ended.length && (this.#ended[over] as Ended).freeAt <= now) over += 1;
    // An array is not cut for every single one.
    if (over < 64 && over < this.#ended.length) return;
    this.#ended = this.#ended.slice(over);
    this.#first += over;
    // What is free again need not be told any more: the number in flight says it.
    this.#acknowledged = Math.max(this.#acknowledged, this.#first - 1);
  }
}

/** What never left is not held. */
function isHeld({ ending, freeAt }: Ended, now: number): boolean {
  return ending[0] !== 'r' && freeAt > now;
}
