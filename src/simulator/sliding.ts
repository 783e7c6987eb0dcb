/**
 * The greatest number of events within any span of time, exactly: the greatest is always reached in a span that ends
 * with an event, so it is enough to look back from each. Spans are half open: an event one whole span ago is outside.
 */
export class SlidingMaximum {
  readonly #spanMs: number;
  #times: number[] = [];
  #head = 0;
  #greatest = 0;

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  /** Times must not go backwards. */
  add(atMs: number): void {
    this.#times.push(atMs);
    while ((this.#times[this.#head] ?? atMs) <= atMs - this.#spanMs) this.#head += 1;
    // Cut off only when half is old: a shift for each would make the busy simulator quadratic.
    if (this.#head > 1024 && this.#head * 2 > this.#times.length) {
      this.#times = this.#times.slice(this.#head);
      this.#head = 0;
    }
    this.#greatest = Math.max(this.#greatest, this.#times.length - this.#head);
  }

  get greatest(): number {
    return this.#greatest;
  }
}
