import { binAfterWindow, binOf } from './window.ts';

/**
 * Slots a minute that are kept for their tenant, whether it asks or not: the others may use what is left above them. What
 * a tenant was admitted in the last minute counts against its own.
 */
export class Guarantees {
  #slots: ReadonlyMap<string, number> = new Map();
  readonly #used = new Map<string, number>();
  /** Admissions by the step in which they are a minute old. */
  readonly #bins = new Map<number, Map<string, number>>();
  #head = Number.NEGATIVE_INFINITY;

  /** @param slots by tenant; those without a guarantee are left out */
  configure(slots: ReadonlyMap<string, number>): void {
    this.#slots = slots;
  }

  /** What is kept for all but `tenant`. */
  keptForOthers(tenant: string | null, now: number): number {
    if (this.#slots.size === 0) return 0;
    this.#expire(now);
    let kept = 0;
    for (const id of this.#slots.keys()) if (id !== tenant) kept += this.#left(id);
    return kept;
  }

  /** Whether the tenant has not used up what is kept for it. */
  entitled(tenant: string, now: number): boolean {
    if (!this.#slots.has(tenant)) return false;
    this.#expire(now);
    return this.#left(tenant) > 0;
  }

  admitted(tenant: string, now: number): void {
    if (!this.#slots.has(tenant)) return;
    this.#expire(now);
    const bin = binAfterWindow(now);
    const counts = this.#bins.get(bin) ?? new Map<string, number>();
    counts.set(tenant, (counts.get(tenant) ?? 0) + 1);
    this.#bins.set(bin, counts);
    this.#used.set(tenant, (this.#used.get(tenant) ?? 0) + 1);
  }

  #left(tenant: string): number {
    return Math.max(0, (this.#slots.get(tenant) ?? 0) - (this.#used.get(tenant) ?? 0));
  }

  #expire(now: number): void {
    const present = binOf(now);
    if (this.#bins.size === 0) this.#head = Math.max(this.#head, present + 1);
    for (; this.#head <= present; this.#head++) {
      for (const [tenant, count] of this.#bins.get(this.#head) ?? []) {
        const used = (this.#used.get(tenant) ?? 0) - count;
        if (used > 0) this.#used.set(tenant, used);
        else this.#used.delete(tenant);
      }
      this.#bins.delete(this.#head);
    }
  }
}
