import type { Clock, MonotonicMs } from '../../clock.ts';
import type { AccountState, Receipt } from '../../quota/account.ts';
import type { Slot, UpstreamLimit } from '../../quota/ledger.ts';
import type { Completion, LocalLeases } from './local-leases.ts';

export interface SlotOptions {
  readonly leases: LocalLeases;
  readonly clock: Clock;
  readonly tenant: string | null;
  readonly burst: number;
  /** Requests a minute that Patchworks allows: what an answer says of another limit is another counter's. */
  readonly limit: number;
  readonly receipt: Receipt;
  /** The state that admitted it without Redis; null: Redis did. */
  readonly alone: AccountState | null;
  /** For what was admitted without Redis: as of now, at Redis. */
  readonly redisNow: () => number;
  readonly onEnded: () => void;
  readonly onAnswer: (seen: UpstreamLimit, ours: boolean) => void;
  readonly onRefund: () => void;
}

/** One admitted request; the first word on how it ended counts. */
export function sharedSlot(options: SlotOptions): Slot {
  const { leases, clock, tenant, receipt, alone, limit } = options;
  const lease = leases.begin(clock.monotonic());
  const now = (): number => Math.floor(clock.monotonic());
  let ended = false;
  const once = (): boolean => {
    const first = !ended;
    ended = true;
    return first;
  };
  const end = (completion: Completion): void => {
    leases.complete(lease, completion, clock.monotonic());
    options.onEnded();
  };
  return {
    settle(seen) {
      if (!once()) return;
      const ours = seen.limit === null || seen.limit === limit;
      // Alone, what the other replicas send looks like foreign use.
      alone?.settle(receipt, { ...seen, remaining: null }, now());
      const atRedis = alone === null ? receipt : { admittedAt: Math.floor(options.redisNow()), answeredBefore: 0 };
      end(completionOf(atRedis, seen, ours && alone === null ? limit : null));
      options.onAnswer(seen, ours);
    },
    lose(latestArrival: MonotonicMs) {
      if (!once()) return;
      clock.after(latestArrival - clock.monotonic(), () => {
        alone?.expire(now());
        end({ kind: 'lost' });
      });
    },
    refund() {
      if (!once()) return;
      alone?.refund(tenant, now());
      end({ kind: 'refund', ...(tenant !== null && { tenant }), burst: options.burst });
      options.onRefund();
    },
  };
}

/** @param limit null: what the response says of the use is not to be believed */
export function completionOf(
  { admittedAt, answeredBefore }: Receipt,
  { remaining, throttled }: UpstreamLimit,
  limit: number | null,
): Completion {
  const believed = limit !== null && remaining !== null && remaining <= limit;
  const retryAfterMs = throttled?.retryAfterMs ?? null;
  return {
    ...{ kind: 'response', admittedAt, completedBefore: answeredBefore },
    ...(believed && { used: limit - remaining, remaining }),
    ...(throttled !== null && { throttled: retryAfterMs === null ? {} : { retryAfterMs } }),
  };
}
