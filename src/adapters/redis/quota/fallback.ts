import { AccountState } from '../../../quota/account.ts';
import { effectiveQuota } from '../../../quota/advertised-limit.ts';
import type { BudgetCounts } from '../../../quota/budgets.ts';
import { LEASE_MS } from '../../../quota/lease-window.ts';
import { MAX_CARRY } from '../../../quota/pacing.ts';
import type { AccountQuota, TenantQuota } from '../../../quota/quota-store.ts';
import type { LocalLeases } from './local-leases.ts';
import type { AccountSnapshot } from './quota-scripts.ts';

/** A replica that is silent this long has its share reserved by Redis (membership.lua), at the latest. */
const SILENT_MS = 2_000;
/** From then on it may work alone: no sooner than Redis has stopped giving its share to the others. */
const ALONE_AFTER_MS = 2_500;
/** Admissions beyond the account's bucket and its rate: logins, and what came late is made up for. */
const UNPACED = 5 + MAX_CARRY;

interface Quotas {
  readonly quota: AccountQuota;
  readonly tenants: ReadonlyMap<string, TenantQuota>;
}

/**
 * A replica that has lost Redis works with the model, on its share of the ceiling. The bucket starts empty; tenants have
 * their share of their own quotas. External usage is left out: the other replicas' requests look just like it.
 */
export class Fallback {
  readonly state: AccountState;
  readonly #snapshot: AccountSnapshot;
  readonly #quotas: Quotas;
  readonly #maxInFlightMs: number;
  readonly #leases: LocalLeases;

  constructor(options: {
    readonly snapshot: AccountSnapshot;
    readonly quota: AccountQuota;
    readonly tenants: ReadonlyMap<string, TenantQuota>;
    readonly maxInFlightMs: number;
    readonly leases: LocalLeases;
    /** The requests sent without Redis, by budget. */
    readonly counts: BudgetCounts;
    readonly now: number;
  }) {
    const { snapshot } = options;
    // As of the snapshot; what the upstream advertises from now on lowers this again.
    const quota = effectiveQuota(options.quota, snapshot.advertised);
    this.#snapshot = snapshot;
    this.#quotas = { quota, tenants: options.tenants };
    this.#maxInFlightMs = options.maxInFlightMs;
    this.#leases = options.leases;
    const parts = Math.max(1, snapshot.replicas);
    this.state = new AccountState(
      { ...quota, ceiling: Math.max(1, snapshot.share), burst: part(quota.burst, parts) },
      new Map([...options.tenants].map(([id, each]) => [id, partOf(each, parts)])),
      options.now,
      { primed: true, counts: options.counts },
    );
  }

  /** Slots of the share that are not to be given out now. */
  withheld(now: number): number {
    const { ceiling, slotsInUse } = this.state.view(now);
    const may = Math.min(ceiling, allowance(this.#snapshot, this.#quotas, this.#maxInFlightMs, now));
    return ceiling - may + this.#leases.heldSince(this.#snapshot.askedAt, now) - slotsInUse;
  }

  /**
   * The part of what is left of a budget that this replica may send, as the snapshot was the latest it knew: an equal one of
   * what is left for certain. So all replicas without Redis together stay within the budget.
   */
  budgetPart(left: number): number {
    const { replicas, silent } = this.#snapshot;
    if (replicas <= 1) return left;
    const given = replicas - silent > 1 ? givenAfter(this.#snapshot, this.#quotas, this.#maxInFlightMs) : 0;
    return Math.max(0, Math.floor((left - given) / replicas));
  }
}

/** From when on this replica may work alone. */
export function aloneFrom(snapshot: AccountSnapshot): number {
  return snapshot.askedAt + ALONE_AFTER_MS;
}

/**
 * Slots admitted after the snapshot that a replica without Redis may hold. With all others in the same state, or some of
 * them still with Redis, the sum stays within the ceiling:
 *
 * - S: slots that stood then and may still be held; they run out.
 * - A: slots that the others may have been given before Redis took this replica for silent: bounded by the bucket and the
 *   window. Each replica counts what it was given itself after its own snapshot, so only what one of them may have above
 *   its part has to be left: with (C − R − S) / N each, that is A − (C − R − S) / N, if above 0.
 * - R: slots left to replicas that were silent already; they are not among the N.
 * - Redis leaves `share` to it from then on, and takes it as the most it holds.
 *
 * docs/decisions/0006 has the proof.
 */
function allowance(snapshot: AccountSnapshot, quotas: Quotas, maxInFlightMs: number, now: number): number {
  const { share, receivedAt, reserved } = snapshot;
  const { ceiling } = quotas.quota;
  const replicas = snapshot.replicas - snapshot.silent;
  if (replicas <= 0) return 0;
  const free = Math.max(0, ceiling - reserved - heldAt(snapshot, maxInFlightMs, now));
  if (replicas === 1) return Math.min(share, free);
  const over = now > receivedAt + SILENT_MS + maxInFlightMs + LEASE_MS;
  const given = over ? 0 : givenAfter(snapshot, quotas, maxInFlightMs);
  const each = Math.floor(free / replicas);
  return Math.min(share, given <= each ? each : Math.max(0, Math.floor((free - given) / (replicas - 1))));
}

/** Slots of the snapshot that may be held at `now`: ended ones until they are free, those in flight until they cannot be. */
function heldAt({ receivedAt, inFlight, expiries }: AccountSnapshot, maxInFlightMs: number, now: number): number {
  let held = now < receivedAt + maxInFlightMs + LEASE_MS ? inFlight : 0;
  for (const [ms, slots] of expiries) if (now < receivedAt + ms) held += slots;
  return held;
}

/** The most that all together can have been admitted between the snapshot and the silence of one. */
function givenAfter(snapshot: AccountSnapshot, { quota, tenants }: Quotas, maxInFlightMs: number): number {
  const { ceiling } = quota;
  const byBucket = atOnce(snapshot, tenants) + Math.ceil((ceiling * SILENT_MS) / 60_000);
  const byWindow = ceiling - heldAt(snapshot, maxInFlightMs, snapshot.receivedAt + SILENT_MS);
  return Math.max(0, Math.min(byBucket, byWindow));
}

/** Admissions that no pace bounds. Reserved slots are given out whatever the pace. */
function atOnce({ tokens }: AccountSnapshot, tenants: ReadonlyMap<string, TenantQuota>): number {
  return tokens + UNPACED + [...tenants.values()].reduce((sum, { reserved }) => sum + reserved, 0);
}

/**
 * The last snapshot of all replicas, as news for a Redis that has lost its memory. `completed`: slots by the
 * milliseconds for which they are held, ascending. Slots in flight then may be held for `inFlightMs`. Later ones may be held for
 * `givenMs`: those of `givenForMs` at the pace of the ceiling, and so many `atOnce`.
 */
export function newsOf(snapshot: AccountSnapshot, quotas: Quotas, maxInFlightMs: number, now: number) {
  const { stateId, asOf, askedAt, receivedAt, expiries, mates, replicas, silent, orphans, primed } = snapshot;
  const inFlightMs = Math.ceil(receivedAt + maxInFlightMs + LEASE_MS - now);
  return {
    ...{ stateId, asOf, mates, orphans, primed, inFlightMs },
    ageMs: Math.ceil(now - askedAt),
    completed: expiries.map(([ms, slots]) => [Math.ceil(receivedAt + ms - now), slots]),
    ...{ givenForMs: replicas - silent > 1 ? SILENT_MS : 0, atOnce: atOnce(snapshot, quotas.tenants) },
    givenMs: inFlightMs + SILENT_MS,
  };
}

function partOf(quota: TenantQuota, parts: number): TenantQuota {
  return {
    ...quota,
    rate: quota.rate / parts,
    burst: part(quota.burst, parts),
    reserved: Math.floor(quota.reserved / parts),
  };
}

function part(count: number, parts: number): number {
  return Math.max(1, Math.floor(count / parts));
}
