import type { Clock, MonotonicMs } from '../../clock.ts';
import type { AccountState, Receipt } from '../../quota/account.ts';
import type { Slot, UpstreamLimit } from '../../quota/ledger.ts';
import type { Ending, OwnSlots } from './own-slots.ts';

export interface SlotOptions {
  readonly own: OwnSlots;
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
  const { own, clock, tenant, receipt, alone, limit } = options;
  const begun = own.begin(clock.monotonic());
  const now = (): number => Math.floor(clock.monotonic());
  let ended = false;
  const once = (): boolean => {
    const first = !ended;
    ended = true;
    return first;
  };
  const end = (ending: Ending): void => {
    own.end(begun, ending, clock.monotonic());
    options.onEnded();
  };
  return {
    settle(seen) {
      if (!once()) return;
      const ours = seen.limit === null || seen.limit === limit;
      // Alone, what the other replicas send looks like foreign use.
      alone?.settle(receipt, { ...seen, remaining: null }, now());
      const atRedis = alone === null ? receipt : { admittedAt: Math.floor(options.redisNow()), answeredBefore: 0 };
      end(endingOf(atRedis, seen, ours && alone === null ? limit : null));
      options.onAnswer(seen, ours);
    },
    lose(latestArrival: MonotonicMs) {
      if (!once()) return;
      clock.after(latestArrival - clock.monotonic(), () => {
        alone?.expire(now());
        end(['x']);
      });
    },
    refund() {
      if (!once()) return;
      alone?.refund(tenant, now());
      end(['r', tenant ?? '', options.burst]);
      options.onRefund();
    },
  };
}

/** @param limit null: what the answer says of the use is not to be believed */
function endingOf(
  { admittedAt, answeredBefore }: Receipt,
  { remaining, throttled }: UpstreamLimit,
  limit: number | null,
): Ending {
  const used = limit !== null && remaining !== null && remaining <= limit ? limit - remaining : -1;
  const told = throttled === null ? -1 : (throttled.retryAfterMs ?? -2);
  return ['s', admittedAt, answeredBefore, used, remaining ?? 0, told];
}
