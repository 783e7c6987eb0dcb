import { WINDOW_MS } from './lease-window.ts';

/**
 * Slots a minute that are kept for their tenant, whether it asks or not: the others may use the rest. Admissions of the last
 * minute count against a tenant's own.
 */
export class Reservations {
  #reserved: ReadonlyMap<string, number> = new Map();
  /** By tenant: when each of its admissions is a minute old, in ascending order. */
  readonly #admissions = new Map<string, readonly number[]>();

  /** @param reserved slots by tenant; tenants without a reservation are left out */
  configure(reserved: ReadonlyMap<string, number>): void {
    this.#reserved = reserved;
  }

  forget(tenant: string): void {
    this.#admissions.delete(tenant);
  }

  /** Slots kept for all but `tenant`. */
  keptForOthers(tenant: string | null, now: number): number {
    let kept = 0;
    for (const id of this.#reserved.keys()) if (id !== tenant) kept += this.#left(id, now);
    return kept;
  }

  /** Whether the tenant has not used up what is kept for it. */
  entitled(tenant: string, now: number): boolean {
    return this.#reserved.has(tenant) && this.#left(tenant, now) > 0;
  }

  admitted(tenant: string, now: number): void {
    if (!this.#reserved.has(tenant)) return;
    this.#admissions.set(tenant, [...this.#recent(tenant, now), now + WINDOW_MS]);
  }

  #left(tenant: string, now: number): number {
    return Math.max(0, (this.#reserved.get(tenant) ?? 0) - this.#recent(tenant, now).length);
  }

  #recent(tenant: string, now: number): readonly number[] {
    return (this.#admissions.get(tenant) ?? []).filter((expiresAt) => expiresAt > now);
  }
}
