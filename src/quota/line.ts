/** How long after its time a tenant may come to claim a slot before the others are let past. */
const GRACE_MS = 250;
/** A slot may be there a little before the time that was told: it is kept for whoever is about to come. */
const EARLY_MS = 10;

interface Place {
  readonly tag: number;
  /** When it was told to come back. */
  readonly dueAt: number;
}

/**
 * Who is next when tenants compete for slots: start-time fair queueing (Goyal, Vin, Cheng 1996). Each tenant has a tag
 * that moves on by `1 / weight` with each admission; the lowest tag goes first. So slots are shared by weight among those
 * who want them, what one does not use the others get (max-min), and one alone gets everything. Nobody is owed for a time
 * in which it asked for nothing: a newcomer starts at the tag that is being served, less one request. So a tenant of few
 * callers, who are all on their way for a moment, keeps the turn that was about to come.
 *
 * Only those who wait stand in line. One that does not come when it was told to loses its place, not its tag.
 */
export class Line {
  /** The tag that is being served. */
  #served = 0;
  readonly #next = new Map<string, number>();
  readonly #places = new Map<string, Place>();

  /** Tenants that did not come in time lose their places. */
  expire(now: number): void {
    for (const [tenant, place] of this.#places) if (place.dueAt < now - GRACE_MS) this.#places.delete(tenant);
  }

  /** The tag with which this tenant's next request is served. */
  tagOf(tenant: string, weight: number): number {
    return this.#places.get(tenant)?.tag ?? Math.max(this.#next.get(tenant) ?? 0, this.#served - 1 / weight);
  }

  /**
   * Slots that tenants with a lower tag may claim now, before it is the turn of `tag`: each as many as it takes until its
   * tag is no longer lower. A weight above 1 would take more; its tag stays lower, and makes up for it.
   */
  dueAhead(tag: number, now: number): number {
    let ahead = 0;
    for (const place of this.#places.values())
      if (place.tag < tag && place.dueAt <= now + EARLY_MS) ahead += Math.ceil(tag - place.tag);
    return ahead;
  }

  /** Tenants with a lower tag, now or later. */
  ahead(tag: number): number {
    let ahead = 0;
    for (const place of this.#places.values()) if (place.tag < tag) ahead += 1;
    return ahead;
  }

  join(tenant: string, tag: number, dueAt: number): void {
    this.#places.set(tenant, { tag, dueAt });
  }

  leave(tenant: string): void {
    this.#places.delete(tenant);
  }

  admitted(tenant: string, tag: number, weight: number): void {
    this.#places.delete(tenant);
    let lowest = tag;
    for (const place of this.#places.values()) lowest = Math.min(lowest, place.tag);
    // Whoever is let past others who wait must not take the time with it: they would lose what they are behind.
    this.#served = Math.max(this.#served, lowest);
    this.#next.set(tenant, tag + 1 / weight);
  }

  forget(tenant: string): void {
    this.#next.delete(tenant);
    this.#places.delete(tenant);
  }
}
