import type { Ask, RefusedBy } from '../../quota/ledger.ts';

/** A refusal by the account is not believed for longer: a slot that is given back, or a replica that is, changes it. */
const LONGEST_BELIEF_MS = 1_000;

interface Remembered {
  readonly by: RefusedBy;
  readonly until: number;
  /** Until then it is repeated without asking. */
  readonly believedUntil: number;
  /** The tenant stands in line at Redis. */
  readonly inLine: boolean;
}

/**
 * What Redis has refused, until when: a tenant that is known to be out is refused here, however often it asks. Tenants are of
 * the configuration: the map is bounded by it.
 */
export class Refusals {
  readonly #byTenant = new Map<string, Remembered>();

  note(tenant: string, by: RefusedBy, waitMs: number, maxWaitMs: number, now: number): void {
    const inLine = by === 'account' && waitMs <= maxWaitMs;
    const believedMs = by === 'account' && !inLine ? Math.min(waitMs, LONGEST_BELIEF_MS) : waitMs;
    this.#byTenant.set(tenant, { by, until: now + waitMs, believedUntil: now + believedMs, inLine });
  }

  /** Null: Redis has to be asked. */
  recall(tenant: string, { maxWaitMs }: Ask, now: number): { readonly by: RefusedBy; readonly waitMs: number } | null {
    const known = this.#byTenant.get(tenant);
    if (known === undefined) return null;
    const waitMs = known.until - now;
    // One that is willing to wait needs a place in line, unless it is its own bucket that it waits for.
    if (known.believedUntil > now && (waitMs > maxWaitMs || known.inLine || known.by === 'tenant')) {
      return { by: known.by, waitMs };
    }
    this.#byTenant.delete(tenant);
    return null;
  }

  forget(tenant: string): void {
    this.#byTenant.delete(tenant);
  }

  clear(): void {
    this.#byTenant.clear();
  }
}
