import { WINDOW_MS } from '../../quota/window.ts';

/** How a request ended, as the settle script reads it. */
export type Ending =
  | readonly [kind: 's', admittedAt: number, answeredBefore: number, used: number, remaining: number, told: number]
  | readonly [kind: 'x']
  | readonly [kind: 'r', tenant: string, burst: number];

/** Slots are freed in steps, and ours are told in milliseconds from a time that has passed when it is read. */
const SPARE_MS = 300;
/** Fewer are not worth cutting off. */
const WORTH_CUTTING = 1_024;

/**
 * The slots of this replica, as it alone knows them for certain: what it tells a Redis that may have forgotten. Endings
 * are numbered, so that Redis takes each in once. Times are of this process's monotonic clock.
 *
 * Of the endings of the last minute two numbers are kept, in lists of nothing else: at 100,000 a minute as many objects would be
 * most of what the collector has to copy and to look through.
 */
export class OwnSlots {
  /** When each request in flight was admitted. */
  readonly #inFlight = new Set<{ readonly admittedAt: number }>();
  /** Of what ended in the last minute, told to Redis or not: so an outage does not make it pile up. Numbered from `#base` on. */
  #admittedAt: number[] = [];
  /** Free from then on, and of no interest. Negative: it never left, and so is not held, but has its number until then. */
  #freeAt: number[] = [];
  #base = 1;
  /** Those before are of no interest any more; cut off when they are worth it. */
  #over = 0;
  /** Those that Redis does not know of yet, numbered from `#acknowledged + 1` on. */
  #untold: Ending[] = [];
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
    const freeAt = now + WINDOW_MS + SPARE_MS;
    this.#admittedAt.push(begun.admittedAt);
    this.#freeAt.push(ending[0] === 'r' ? -freeAt : freeAt);
    this.#untold.push(ending);
  }

  /** In flight, and what may be by now. */
  get present(): number {
    return this.asking + this.#inFlight.size;
  }

  /** What Redis has to count as in flight: endings it does not know included. */
  get counted(): number {
    return this.present + this.#untold.length;
  }

  get lastNumber(): number {
    return this.#base + this.#freeAt.length - 1;
  }

  /** Endings that Redis does not know yet, at most `most`. */
  untold(most: number): { readonly first: number; readonly endings: readonly Ending[] } {
    return { first: this.#acknowledged + 1, endings: this.#untold.slice(0, most) };
  }

  acknowledge(number: number): void {
    if (number <= this.#acknowledged) return;
    this.#untold.splice(0, number - this.#acknowledged);
    this.#acknowledged = number;
  }

  /** All endings that are still held, with the milliseconds they are held for; -1 for what is not. */
  held(now: number): { readonly first: number; readonly heldForMs: readonly number[] } {
    this.#prune(now);
    return {
      first: this.#base + this.#over,
      heldForMs: this.#freeAt.slice(this.#over).map((freeAt) => (freeAt > now ? Math.ceil(freeAt - now) : -1)),
    };
  }

  /** Slots held now that were admitted at `since` or later. */
  heldSince(since: number, now: number): number {
    let count = 0;
    for (const { admittedAt } of this.#inFlight) if (admittedAt >= since) count += 1;
    for (let i = this.#over; i < this.#freeAt.length; i++) {
      if ((this.#admittedAt[i] as number) >= since && (this.#freeAt[i] as number) > now) count += 1;
    }
    return count;
  }

  #prune(now: number): void {
    while (this.#over < this.#freeAt.length && Math.abs(this.#freeAt[this.#over] as number) <= now) this.#over += 1;
    // What is free again need not be told any more: the number in flight says it.
    this.acknowledge(this.#base + this.#over - 1);
    // A list is not cut for every single one, nor more often than it is long.
    if (this.#over < WORTH_CUTTING || this.#over * 2 < this.#freeAt.length) return;
    this.#admittedAt = this.#admittedAt.slice(this.#over);
    this.#freeAt = this.#freeAt.slice(this.#over);
    this.#base += this.#over;
    this.#over = 0;
  }
}
