import type { Clock, MonotonicMs } from '../../../clock.ts';
import type { AccountState } from '../../../quota/account.ts';
import type { Charge } from '../../../quota/budgets.ts';
import type { AdvertisedLimit, Slot } from '../../../quota/quota-store.ts';
import type { Lease } from '../../../quota/slot-supply.ts';
import type { Completion, LocalLeases } from './local-leases.ts';

export interface SharedSlotOptions {
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
  let ended = false;
  const once = (): boolean => {
    const isFirst = !ended;
    ended = true;
    return isFirst;
  };
  const end = (completion: Completion): void => {
    leases.complete(localLease, completion, clock.monotonic());
    options.onCompleted(completion.kind === 'response' && completion.throttled !== undefined);
  };
  return {
    complete(seen) {
      if (!once()) return;
      // Without Redis, requests of the other replicas look like external usage.
      const believed = fallback === null ? seen : { ...seen, remaining: null };
      fallback?.complete(lease, believed, now());
      const atRedis =
        fallback === null ? lease : { admittedAt: Math.floor(options.redisNow()), completedBefore: 0, freedBefore: 0 };
      end(completionOf(atRedis, believed));
      options.onAdvertised(seen);
    },
    lose(latestArrivalMs: MonotonicMs) {
      if (!once()) return;
      clock.after(latestArrivalMs - clock.monotonic(), () => {
        fallback?.lose(now());
        end({ kind: 'lost' });
      });
    },
    refund() {
      if (!once()) return;
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
    ...{ kind: 'response', admittedAt: lease.admittedAt, completedBefore: lease.completedBefore },
    freedBefore: lease.freedBefore,
    ...(limit !== null && { limit }),
    ...(remaining !== null && { remaining }),
    ...(throttled !== null && { throttled: retryAfterMs === null ? {} : { retryAfterMs } }),
  };
}
