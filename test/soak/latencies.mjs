// Counts of latencies in steps of 2 %, from 50 µs to two minutes: as exact as needed, and as large for a billion as for ten.
const LEAST_MS = 0.05;
const STEP = Math.log(1.02);
const STEPS = Math.ceil(Math.log(120_000 / LEAST_MS) / STEP) + 1;

export class Latencies {
  #counts = new Uint32Array(STEPS);
  count = 0;

  /** @param {number} ms */
  add(ms) {
    const step = ms <= LEAST_MS ? 0 : Math.ceil(Math.log(ms / LEAST_MS) / STEP);
    const index = Math.min(STEPS - 1, step);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.count += 1;
  }

  /** @param {Latencies} other */
  merge(other) {
    for (let i = 0; i < STEPS; i++) this.#counts[i] = (this.#counts[i] ?? 0) + (other.#counts[i] ?? 0);
    this.count += other.count;
  }

  /** @param {number} part 0.99 @returns {number | null} milliseconds */
  quantile(part) {
    if (this.count === 0) return null;
    let left = Math.ceil(this.count * part);
    for (let i = 0; i < STEPS; i++) {
      left -= this.#counts[i] ?? 0;
      if (left <= 0) return LEAST_MS * Math.exp(i * STEP);
    }
    return LEAST_MS * Math.exp((STEPS - 1) * STEP);
  }
}
