import type { MonotonicMs } from '../clock.ts';

/**
 * The port between whoever wants to send and whoever counts. The memory ledger implements it for one process; a
 * Redis ledger implements it for many. All decisions of one ask are taken together: check all, then spend all.
 *
 * A slot of the account's window is held from admission until 60 s after the answer's headers arrived. Every arrival
 * upstream lies between admission and answer, so any 60 s window upstream holds at most the slots live at its end.
 */
export interface Ledger {
  /** A slot and a token, or a refusal that spent nothing. */
  admit(ask: Ask): Decision | Promise<Decision>;
  /** Nobody of this tenant waits here any more: its place in line is free. */
  withdraw(account: string, tenant: string): void;
  /** Takes over new quotas; neither refills nor empties what is spent. */
  configure(plan: LedgerPlan): void;
  /** What a tenant could still send now; for the limit fields of answers that spent nothing. */
  peek(account: string, tenant: string): TenantView;
  /** State of one account, for metrics and /status. */
  view(account: string): AccountView;
}

/** Who asks for a slot, and for what. */
export interface Ask {
  readonly account: string;
  /** Null for the gateway's own calls (login): they need a slot of the account and no tenant's token. */
  readonly tenant: string | null;
  /** If refused for want of a slot, it stands in line and comes back when it is told to, unless that is later than this. */
  readonly maxWaitMs: number;
  /** Nobody waits for it: it takes none of the last slots, see {@link spareOf}. Default: false. */
  readonly background?: boolean;
}

/** Slots and tokens of an account that what happens in the background leaves to those who wait for an answer. */
export function spareOf({ ceiling, burst }: AccountQuota): number {
  return Math.min(Math.ceil(ceiling / 10), Math.floor(burst / 2));
}

export type Decision =
  | { readonly kind: 'admitted'; readonly slot: Slot; readonly tenant: TenantView }
  | { readonly kind: 'refused'; readonly by: RefusedBy; readonly retryAfterMs: number; readonly tenant: TenantView };

/**
 * `tenant`: its own bucket is empty. `account`: the window, the account's bucket, or others are first. `hold`: upstream said
 * 429. `state`: the state that replicas share can not be asked now.
 */
export type RefusedBy = 'tenant' | 'account' | 'hold' | 'state';

/** One admitted request. Exactly one of the three is called, once; later calls are ignored. */
export interface Slot {
  /** The headers of an answer are here, now. */
  settle(seen: UpstreamLimit): void;
  /** No answer, and the request may still arrive until `latestArrivalMs`. */
  lose(latestArrivalMs: MonotonicMs): void;
  /** It provably never left: slot and token go back. */
  refund(): void;
}

/** What an answer told about the account's limit, already parsed; null where absent or malformed. */
export interface UpstreamLimit {
  readonly limit: number | null;
  readonly remaining: number | null;
  /** Set when the answer was a 429: `retryAfterMs` as the upstream said, or null where it said nothing. */
  readonly throttled: { readonly retryAfterMs: number | null } | null;
}

export interface TenantView {
  /** Requests a minute of the tenant's own quota. */
  readonly limit: number;
  /** Whole requests the tenant could send now. */
  readonly remaining: number;
  /** Until the bucket is full again. */
  readonly resetMs: number;
  /** Size of the burst: what `remaining` is at most. */
  readonly burst: number;
}

/** Of a tenant that a reload has removed while its request was under way. */
export const NO_TENANT: TenantView = { limit: 0, remaining: 0, resetMs: 0, burst: 0 };
/** How long the requests of such a tenant are told to stay away. */
export const REMOVED_RETRY_MS = 60_000;

export interface AccountView {
  readonly limit: number;
  readonly ceiling: number;
  readonly slotsInUse: number;
  /** Slots taken by others on the account, as far as X-RateLimit-Remaining shows. */
  readonly slotsForeign: number;
  /** Until when the upstream asked the account to wait: milliseconds from now, 0 if not held. */
  readonly heldForMs: number;
  /** Replicas that count the account together, this one included; 0 until it has heard of the others. */
  readonly replicas: number;
}

/** Static quota of an account; from configuration. */
export interface AccountQuota {
  /** What Patchworks allows in a minute. */
  readonly limit: number;
  /** What the gateway sends at most in any 60 s. */
  readonly ceiling: number;
  /** Size of the account's token bucket, which paces and is refilled at `ceiling` a minute. */
  readonly burst: number;
}

/** Static quota of a tenant; from configuration. */
export interface TenantQuota {
  /** Tokens a minute. */
  readonly rate: number;
  readonly burst: number;
  readonly weight: number;
  readonly reserved: number;
  readonly maxWaitMs: number;
}

/** The quotas a ledger works with; handed over whole at start and at each reload, which neither refills nor empties. */
export interface LedgerPlan {
  readonly accounts: ReadonlyMap<string, AccountQuota>;
  /** By account, then tenant. */
  readonly tenants: ReadonlyMap<string, ReadonlyMap<string, TenantQuota>>;
}
