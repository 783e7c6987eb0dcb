import { AccountState } from '../../quota/account.ts';
import type { AccountQuota, TenantQuota } from '../../quota/ledger.ts';
import type { OwnSlots } from './own-slots.ts';
import { ALONE_AFTER_MS, allowance, type Standing } from './standing.ts';

/**
 * What a replica works with that has lost Redis: the model, on its share of the ceiling. Starts with an empty bucket;
 * tenants have their share of their own quotas. Foreign use is left out: what the other replicas send looks just like it.
 */
export class Fallback {
  readonly state: AccountState;
  readonly #standing: Standing;
  readonly #quota: AccountQuota;
  readonly #flightMs: number;
  readonly #own: OwnSlots;

  constructor(options: {
    readonly standing: Standing;
    readonly quota: AccountQuota;
    readonly tenants: ReadonlyMap<string, TenantQuota>;
    readonly flightMs: number;
    readonly own: OwnSlots;
    readonly now: number;
  }) {
    const { standing, quota } = options;
    this.#standing = standing;
    this.#quota = quota;
    this.#flightMs = options.flightMs;
    this.#own = options.own;
    const parts = Math.max(1, standing.replicas);
    this.state = new AccountState(
      { limit: quota.limit, ceiling: Math.max(1, standing.share), burst: part(quota.burst, parts) },
      new Map([...options.tenants].map(([id, each]) => [id, partOf(each, parts)])),
      options.now,
    );
  }

  /** Slots of the share that are not to be given out now. */
  reserved(now: number): number {
    const { share, askedAt } = this.#standing;
    const may = allowance(this.#standing, this.#quota, this.#flightMs, now);
    return Math.max(1, share) - may + this.#own.heldSince(askedAt, now) - this.state.view(now).slotsInUse;
  }
}

/** From when on this replica may work alone. */
export function aloneFrom(standing: Standing): number {
  return standing.askedAt + ALONE_AFTER_MS;
}

function partOf(quota: TenantQuota, parts: number): TenantQuota {
  return {
    ...quota,
    rate: quota.rate / parts,
    burst: part(quota.burst, parts),
    guarantee: Math.floor(quota.guarantee / parts),
  };
}

function part(count: number, parts: number): number {
  return Math.max(1, Math.floor(count / parts));
}
