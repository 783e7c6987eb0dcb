import { WINDOW_MS } from './lease-window.ts';

/** A tenant that asks later than this after its time loses its place to the others. */
const GRACE_MS = 250;
/** A slot may be free a little before its time: it is kept for the tenant that is about to ask. */
const EARLY_MS = 10;

interface Place {
  readonly virtualTime: number;
  /** When the tenant is to ask again. */
  readonly dueAt: number;
}

/**
 * Which tenant is next when tenants compete for slots: start-time fair queueing (Goyal, Vin, Cheng 1996). Each tenant has a
 * virtual time that moves on by `1 / weight` with each admission; the lowest goes first. So slots are shared by weight among
 * the tenants that want them, what one does not use the others get (max-min), and one alone gets everything. No tenant is
 * owed for a time in which it asked for nothing: a newcomer starts at the virtual time of the queue, less one request. So a
 * tenant of few callers, which are all on their way for a moment, stays next.
 *
 * Only tenants that wait have a place. A tenant that does not ask in time loses its place, not its virtual time.
 */
export class FairQueue {
  /** The virtual time of the queue: that of the latest tenant served in turn. */
  #virtualTime = 0;
  /** By tenant: the virtual time of its next request. */
  readonly #next = new Map<string, number>();
  readonly #places = new Map<string, Place>();

  /** Tenants that did not ask in time lose their places. */
  expire(now: number): void {
    for (const [tenant, place] of this.#places) if (place.dueAt < now - GRACE_MS) this.#places.delete(tenant);
  }

  /** The virtual time at which this tenant's next request is served. */
  virtualTimeOf(tenant: string, weight: number): number {
    const next = Math.max(this.#next.get(tenant) ?? 0, this.#virtualTime - 1 / weight);
    return this.#places.get(tenant)?.virtualTime ?? next;
  }

  /**
   * Slots that tenants ahead of `virtualTime` may claim now: each as many as it takes until it is no longer ahead. A weight
   * above 1 would take more; its tenant stays ahead, and makes up for it.
   */
  claimedAhead(virtualTime: number, now: number): number {
    let claimed = 0;
    for (const place of this.#places.values()) {
      const isDue = place.dueAt <= now + EARLY_MS;
      if (isDue && place.virtualTime < virtualTime) claimed += Math.ceil(virtualTime - place.virtualTime);
    }
    return claimed;
  }

  /** The latest time until which a request waits, or will have lost its place. */
  get waitsUntil(): number {
    return Math.max(0, ...[...this.#places.values()].map(({ dueAt }) => dueAt + GRACE_MS));
  }

  /** Tenants ahead of `virtualTime`, due or not. */
  ahead(virtualTime: number): number {
    let ahead = 0;
    for (const place of this.#places.values()) if (place.virtualTime < virtualTime) ahead += 1;
    return ahead;
  }

  /** A later request of the tenant does not put off the one before it. */
  join(tenant: string, virtualTime: number, dueAt: number, now: number): void {
    const known = this.#places.get(tenant)?.dueAt ?? 0;
    this.#places.set(tenant, { virtualTime, dueAt: known > now ? Math.min(known, dueAt) : dueAt });
  }

  leave(tenant: string): void {
    this.#places.delete(tenant);
  }

  admitted(tenant: string, virtualTime: number, weight: number): void {
    this.#places.delete(tenant);
    let lowest = virtualTime;
    for (const place of this.#places.values()) lowest = Math.min(lowest, place.virtualTime);
    // A tenant that is let past waiting ones must not take the time with it: they would lose what they are behind.
    this.#virtualTime = Math.max(this.#virtualTime, lowest);
    this.#next.set(tenant, virtualTime + 1 / weight);
  }

  forget(tenant: string): void {
    this.#next.delete(tenant);
    this.#places.delete(tenant);
  }
}

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
