/** A clock whose time passes only when its timers are run, one after the other. */
export class VirtualClock {
  #now = 0;
  /** @type {{ due: number, order: number, run: () => void }[]} a heap by due */
  #heap = [];
  #order = 0;

  now() {
    return /** @type {import('../../../src/clock.ts').EpochMs} */ (Date.UTC(2026, 0, 5) + this.#now);
  }
  monotonic() {
    return /** @type {import('../../../src/clock.ts').MonotonicMs} */ (this.#now);
  }
  /** @param {number} delayMs @param {() => void} run */
  after(delayMs, run) {
    const timer = { due: this.#now + Math.max(0, delayMs), order: this.#order++, run };
    this.#push(timer);
    return () => {
      timer.run = () => {};
    };
  }
  /** Runs the next timer; false if it is due later than `end`. @param {number} end */
  step(end) {
    const next = this.#heap[0];
    if (next === undefined || next.due > end) return false;
    this.#pop();
    this.#now = Math.max(this.#now, next.due);
    next.run();
    return true;
  }
  /** @param {number} i @param {number} j */
  #before(i, j) {
    const a = this.#heap[i];
    const b = this.#heap[j];
    return a !== undefined && b !== undefined && (a.due < b.due || (a.due === b.due && a.order < b.order));
  }
  /** @param {number} i @param {number} j */
  #swap(i, j) {
    const a = this.#heap[i];
    const b = this.#heap[j];
    if (a !== undefined && b !== undefined) [this.#heap[i], this.#heap[j]] = [b, a];
  }
  /** @param {{ due: number, order: number, run: () => void }} timer */
  #push(timer) {
    this.#heap.push(timer);
    for (let i = this.#heap.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!this.#before(i, parent)) break;
      this.#swap(i, parent);
      i = parent;
    }
  }
  #pop() {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    for (let i = 0; ; ) {
      const [left, right] = [2 * i + 1, 2 * i + 2];
      const least = this.#before(right, left) ? right : left;
      if (!this.#before(least, i)) break;
      this.#swap(i, least);
      i = least;
    }
  }
}

/** Seeded. @param {number} seed @returns {() => number} */
export function randomOf(seed) {
  let state = (seed * 2_654_435_761) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
