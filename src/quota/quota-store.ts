import type { MonotonicMs } from '../clock.ts';
import type { ClientDisconnect } from '../context.ts';
import type { Span } from '../ports.ts';
import type { Budget, BudgetView, ExhaustedBudget } from './budgets.ts';

/**
 * Counts the slots and tokens of all accounts. The memory store does so for one process, the Redis store for all replicas. A
 * decision checks everything, then spends everything: a rejection has spent nothing.
 *
 * A slot of the account's window is held from admission until 60 s after the headers of the response. Every arrival
 * upstream lies between admission and response, so any 60 s of the upstream see at most the slots held at their end.
 */
export interface QuotaStore {
  admit(request: AccountSlotRequest): Promise<Decision>;
  /** A request that waited asks no more. */
  cancel(account: string, tenant: string, place: number): void;
  /** Takes over new quotas; neither refills nor empties what is spent. */
  configure(plan: QuotaPlan): void;
  /** The tenant's own quota now; for the rate limit headers of responses that spent nothing. */
  peek(account: string, tenant: string): TenantView;
  /** State of one account, for metrics and /status. */
  view(account: string): AccountView;
}

export interface SlotRequest {
  /** Null for the gateway's own calls (login): they need a slot of the account, and no tenant's token. */
  readonly tenant: string | null;
  /** How long it can wait. */
  readonly maxWaitMs: number;
  /**
   * A rejection books a slot for later: a place in the queue if the wait is not longer than `maxWaitMs`, else an appointment.
   * Default: false, for a request that neither waits nor comes back.
   */
  readonly books?: boolean;
  /** It waits already: its place, see {@link RejectedDecision}. */
  readonly place?: number | undefined;
  /** Among the requests of its tenant, 0 (most) to 7: see bookings.ts. Default: 3. */
  readonly urgency?: number;
  /** No caller waits for it: it takes none of the last slots (slot-supply.ts). Default: false. */
  readonly background?: boolean;
  /** Ids of the account's budgets that it counts against. */
  readonly budgets?: readonly string[] | undefined;
  /** Gets a span for a question to the shared state. */
  readonly trace?: Span | null;
}

export interface AccountSlotRequest extends SlotRequest {
  readonly account: string;
}

export type Decision =
  | { readonly kind: 'admitted'; readonly slot: Slot; readonly tenant: TenantView }
  | RejectedDecision;

export interface RejectedDecision {
  readonly kind: 'rejected';
  readonly by: RejectedBy;
  /** When it can expect a slot. */
  readonly retryAfterMs: number;
  /** When a request that waits is to ask again: others before it may not come. */
  readonly askAgainMs: number;
  /** It has a place in the queue. */
  readonly place?: number;
  /** With a place: its rank among the requests of its tenant, relative to its arrival; the lowest is first. */
  readonly rankMs?: number;
  /** It has an appointment: `retryAfterMs` is in whole seconds, and goes to the caller as it is. */
  readonly appointment?: boolean;
  /** For `budget`: the one that has nothing left. `retryAfterMs` is the time to its reset. */
  readonly budget?: ExhaustedBudget;
  readonly tenant: TenantView;
}

/**
 * `tenant`: its own bucket is empty. `account`: the window or the account's bucket is, or other tenants are next.
 * `cooldown`: the upstream sent a 429. `budget`: a budget of the tenant or the account is used up. `state`: the shared state cannot
 * be asked now.
 */
export type RejectedBy = 'tenant' | 'account' | 'cooldown' | 'budget' | 'state';

/** The slot of an admitted request. The first call ends it; later calls are ignored. */
export interface Slot {
  /** The headers of a response are here, now. */
  complete(advertised: AdvertisedLimit): void;
  /** No response, and the request may still arrive until `latestArrivalMs`. */
  lose(latestArrivalMs: MonotonicMs): void;
  /** The request provably never left: slot, token and what it took of budgets go back. */
  refund(): void;
}

/** The account's limit as a response advertises it; null where absent or invalid. */
export interface AdvertisedLimit {
  readonly limit: number | null;
  readonly remaining: number | null;
  /** Set if the response was a 429; `retryAfterMs` is null where it named no time. */
  readonly throttled: { readonly retryAfterMs: number | null } | null;
}

export interface TenantView {
  /** Requests a minute of the tenant's own quota. */
  readonly limit: number;
  /** Whole requests that the tenant could send now. */
  readonly remaining: number;
  /** Until the bucket is full again. */
  readonly resetMs: number;
  /** Size of the burst: the most that `remaining` can be. */
  readonly burst: number;
  /** Left out where its account has none. */
  readonly budgets?: readonly BudgetView[];
}

/** A tenant that a reload has removed while its request was under way. */
export const REMOVED_TENANT: TenantView = { limit: 0, remaining: 0, resetMs: 0, burst: 0 };
/** `Retry-After` for such a tenant. */
export const REMOVED_RETRY_MS = 60_000;

/** For a request whose account a reload has removed. */
export const REMOVED_ACCOUNT: RejectedDecision = {
  kind: 'rejected',
  by: 'tenant',
  retryAfterMs: REMOVED_RETRY_MS,
  askAgainMs: REMOVED_RETRY_MS,
  tenant: REMOVED_TENANT,
};

export interface AccountView {
  readonly limit: number;
  /** As the upstream advertises it; null until three responses in a row have named one. */
  readonly advertisedLimit: number | null;
  /** In force: lower than configured while the upstream advertises a lower limit. */
  readonly ceiling: number;
  readonly slotsInUse: number;
  /** Slots that others use, as far as X-RateLimit-Remaining shows. */
  readonly externalUsage: number;
  /** The rest of the cooldown; 0 if there is none. */
  readonly cooldownMs: number;
  /** Replicas that share the account, this one included; 0 until it has joined. */
  readonly replicas: number;
  /** Left out where it has none. */
  readonly budgets?: readonly BudgetView[];
}

/** Quota of an account, from the configuration. */
export interface AccountQuota {
  /** Requests that Patchworks allows in a minute. */
  readonly limit: number;
  /** Requests that the gateway sends at most in any 60 s. */
  readonly ceiling: number;
  /** Size of the account's token bucket, which is refilled at `ceiling` a minute. */
  readonly burst: number;
  /**
   * For a first response that does not say what the minute before it has used. Default: trust. `idle`: new state waits for no
   * response, for an account that no upstream counts.
   */
  readonly coldStart?: 'trust' | 'wait' | 'idle';
  /** A lower advertised limit lowers the quota in proportion. Default: true. */
  readonly adoptLimit?: boolean;
  /** By name. */
  readonly budgets?: ReadonlyMap<string, Budget>;
}

/** Quota of a tenant, from the configuration. */
export interface TenantQuota {
  /** Tokens a minute. */
  readonly rate: number;
  readonly burst: number;
  readonly weight: number;
  /** Slots a minute that are kept for this tenant. */
  readonly reserved: number;
  readonly maxWaitMs: number;
  /** Its rate and its parts of budgets are not enforced: see observe.ts. Default: false. */
  readonly observed?: boolean;
  /** By the name of a budget of its account: what the tenant may use of it at most. */
  readonly budgets?: ReadonlyMap<string, number>;
}

/** All quotas; handed over whole at start and at each reload. */
export interface QuotaPlan {
  readonly accounts: ReadonlyMap<string, AccountQuota>;
  /** By account, then tenant. */
  readonly tenants: ReadonlyMap<string, ReadonlyMap<string, TenantQuota>>;
}

/** `waitedMs` is 0 for a request that did not have to wait. */
export type Admission =
  | { readonly kind: 'admitted'; readonly slot: Slot; readonly waitedMs: number }
  | (RejectedDecision & {
      readonly waitedMs: number;
      /** It waited in vain. Otherwise a wait was of no use from the start, or because of a cooldown meanwhile. */
      readonly timedOut: boolean;
    })
  | { readonly kind: 'disconnected' }
  /** The gateway drains. */
  | { readonly kind: 'closed' }
  /** Its tenant may not call any more. */
  | { readonly kind: 'dismissed'; readonly status: Exclude<TenantStatus, 'active'> };

/** By the configuration in force now, which may not be the one under which the request was authenticated. */
export type TenantStatus = 'active' | 'removed' | 'disabled';

/** Books unless it says otherwise. */
export interface AdmissionRequest extends Omit<AccountSlotRequest, 'tenant' | 'place'> {
  readonly tenant: string;
  readonly disconnect: ClientDisconnect;
  /** Called if it is neither admitted nor rejected at once. */
  readonly onWait?: () => void;
}
