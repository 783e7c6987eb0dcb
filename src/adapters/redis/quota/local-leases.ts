import type { Clock, MonotonicMs } from '../../../clock.ts';
import type { AccountState } from '../../../quota/account.ts';
import type { Charge } from '../../../quota/budgets.ts';
import { LEASE_MS } from '../../../quota/lease-window.ts';
import type { AdvertisedLimit, Slot } from '../../../quota/quota-store.ts';
import { firstCall, type Lease } from '../../../quota/slot-supply.ts';

/** How a request ended, as complete.lua reads it. */
export type Completion =
  | {
      readonly kind: 'response';
      readonly admittedAt: number;
      readonly completedBefore: number;
      readonly freedBefore: number;
      /** As the response names them; left out if it does not, or is not to be believed. */
      readonly limit?: number;
      readonly remaining?: number;
      /** It was a 429; `retryAfterMs` is left out if it did not say. */
      readonly throttled?: { readonly retryAfterMs?: number };
    }
  /** No response, and the request cannot arrive any more. */
  | { readonly kind: 'lost' }
  /** It never left. */
  | {
      readonly kind: 'refund';
      readonly tenant?: string;
      readonly burst: number;
      /** Counts of budgets to which it goes back. */
      readonly charges?: readonly (readonly [label: string, field: string])[];
    };

/** A slot in flight. */
export interface LocalLease {
  readonly admittedAt: number;
  /** Since when the shared state knows of it, by the time of that state; infinite where it does not. */
  knownSince: number;
}

interface Completed extends LocalLease {
  /** The slot is held, and its completion remembered, until then. */
  readonly expiresAt: number;
  readonly completion: Completion;
}

/**
 * The slots of this replica, as it alone knows them for certain: what it reports to a Redis that may have forgotten.
 * Completions are numbered, so that Redis takes each in once. Those of the last minute are kept, reported or not, so that an
 * outage does not make them pile up. Times are of this process's monotonic clock.
 */
export class LocalLeases {
  readonly #inFlight = new Set<LocalLease>();
  /** In the order of their numbers. */
  readonly #completed: Completed[] = [];
  #lastNumber = 0;
  #acknowledged = 0;
  /** Asks under way: Redis may have admitted them already. */
  asking = 0;

  begin(admittedAt: number, knownSince = Number.POSITIVE_INFINITY): LocalLease {
    const lease = { admittedAt, knownSince };
    this.#inFlight.add(lease);
    return lease;
  }

  /** Later completions of the same lease are ignored. */
  complete(lease: LocalLease, completion: Completion, now: number): void {
    if (!this.#inFlight.delete(lease)) return;
    this.#prune(now);
    this.#lastNumber += 1;
    const { admittedAt, knownSince } = lease;
    this.#completed.push({ admittedAt, knownSince, expiresAt: now + LEASE_MS, completion });
  }

  /** A shared state, perhaps another than before, knows of all that is held. */
  entered(knownSince: number): void {
    for (const lease of [...this.#inFlight, ...this.#completed]) lease.knownSince = knownSince;
  }

  /** Slots that the shared state knows of: since when, and for how many ms they are held; -1: in flight. */
  known(now: number): (readonly [knownSince: number, heldForMs: number])[] {
    this.#prune(now);
    const held = this.#completed.filter(({ completion }) => completion.kind !== 'refund');
    return [
      ...held.map(({ knownSince, expiresAt }) => [knownSince, Math.ceil(expiresAt - now)] as const),
      ...[...this.#inFlight].map(({ knownSince }) => [knownSince, -1] as const),
    ].filter(([knownSince]) => Number.isFinite(knownSince));
  }

  /** In flight, and what may be by now. */
  get present(): number {
    return this.asking + this.#inFlight.size;
  }

  /** The number that Redis has to count as in flight: completions it does not know included. */
  get counted(): number {
    return this.present + this.#lastNumber - this.#acknowledged;
  }

  get lastNumber(): number {
    return this.#lastNumber;
  }

  /** Completions that Redis does not know yet, at most `most`. */
  unreported(most: number): { readonly first: number; readonly completions: readonly Completion[] } {
    const from = this.#completed.length - (this.#lastNumber - this.#acknowledged);
    const completions = this.#completed.slice(from, from + most).map(({ completion }) => completion);
    return { first: this.#acknowledged + 1, completions };
  }

  /** Refunds to budgets in completions that Redis may not know yet. */
  unreportedRefunds(): (readonly [number: number, label: string, field: string])[] {
    const { first, completions } = this.unreported(Number.POSITIVE_INFINITY);
    return completions.flatMap((completion, index) =>
      completion.kind === 'refund' ? (completion.charges ?? []).map((each) => [first + index, ...each] as const) : [],
    );
  }

  acknowledge(number: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, number);
  }

  /** All completions that are remembered, with the milliseconds for which the slot is held; -1 where it is not. */
  held(now: number): { readonly first: number; readonly heldForMs: readonly number[] } {
    this.#prune(now);
    return {
      first: this.#lastNumber - this.#completed.length + 1,
      heldForMs: this.#completed.map(({ completion, expiresAt }) =>
        completion.kind === 'refund' ? -1 : Math.ceil(expiresAt - now),
      ),
    };
  }

  /** Slots held now that were admitted at `since` or later. */
  heldSince(since: number, now: number): number {
    this.#prune(now);
    let count = 0;
    for (const { admittedAt } of this.#inFlight) if (admittedAt >= since) count += 1;
    for (const { admittedAt, completion } of this.#completed) {
      if (admittedAt >= since && completion.kind !== 'refund') count += 1;
    }
    return count;
  }

  #prune(now: number): void {
    const kept = this.#completed.findIndex(({ expiresAt }) => expiresAt > now);
    const over = kept === -1 ? this.#completed.length : kept;
    if (over === 0) return;
    this.#completed.splice(0, over);
    // A completion whose slot is free again need not be reported: the heartbeat corrects the number in flight.
    this.acknowledge(this.#lastNumber - this.#completed.length);
  }
}

interface SharedSlotOptions {
  readonly leases: LocalLeases;
  readonly clock: Clock;
  readonly tenant: string | null;
  readonly burst: number;
  /** The counts of budgets that it added to. */
  readonly charges: readonly Charge[];
  /** Without Redis it goes back here, and is never reported. */
  readonly isAlone: () => boolean;
  readonly lease: Lease;
  /** The state that admitted it without Redis; null: Redis did. */
  readonly fallback: AccountState | null;
  /** See LocalLease; undefined: the shared state does not know of it. */
  readonly knownSince: number | undefined;
  /** For a request that was admitted without Redis: the time at Redis now. */
  readonly redisNow: () => number;
  /** @param urgent the other replicas need it at once: a 429 of the upstream */
  readonly onCompleted: (urgent: boolean) => void;
  readonly onAdvertised: (seen: AdvertisedLimit) => void;
  readonly onRefund: () => void;
}

/** The slot of an admitted request; its first completion counts. */
export function sharedSlot(options: SharedSlotOptions): Slot {
  const { leases, clock, tenant, lease, fallback } = options;
  const localLease = leases.begin(clock.monotonic(), options.knownSince);
  const now = (): number => Math.floor(clock.monotonic());
  const isFirst = firstCall();
  const end = (completion: Completion): void => {
    leases.complete(localLease, completion, clock.monotonic());
    options.onCompleted(completion.kind === 'response' && completion.throttled !== undefined);
  };
  return {
    complete(seen) {
      if (!isFirst()) return;
      // Without Redis, requests of the other replicas look like external usage.
      const believed = fallback === null ? seen : { ...seen, remaining: null };
      fallback?.complete(lease, believed, now());
      const atRedis =
        fallback === null ? lease : { admittedAt: Math.floor(options.redisNow()), completedBefore: 0, freedBefore: 0 };
      end(completionOf(atRedis, believed));
      options.onAdvertised(seen);
    },
    lose(latestArrivalMs: MonotonicMs) {
      if (!isFirst()) return;
      clock.after(latestArrivalMs - clock.monotonic(), () => {
        fallback?.lose(now());
        end({ kind: 'lost' });
      });
    },
    refund() {
      if (!isFirst()) return;
      const refundedHere = fallback !== null && options.isAlone();
      fallback?.refund(tenant, now(), refundedHere ? options.charges : []);
      const charges = refundedHere ? [] : options.charges.map(({ label, field }) => [label, field] as const);
      end({
        ...{ kind: 'refund', burst: options.burst },
        ...(tenant !== null && { tenant }),
        ...(charges.length > 0 && { charges }),
      });
      options.onRefund();
    },
  };
}

export function completionOf(lease: Lease, { limit, remaining, throttled }: AdvertisedLimit): Completion {
  const retryAfterMs = throttled?.retryAfterMs ?? null;
  return {
    kind: 'response',
    admittedAt: lease.admittedAt,
    completedBefore: lease.completedBefore,
    freedBefore: lease.freedBefore,
    ...(limit !== null && { limit }),
    ...(remaining !== null && { remaining }),
    ...(throttled !== null && { throttled: retryAfterMs === null ? {} : { retryAfterMs } }),
  };
}
