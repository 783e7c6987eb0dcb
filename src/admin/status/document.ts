/**
 * What GET /status says, and what the page on the admin port is told of it. Whatever passes is given as what is left of it,
 * not as a time: the clock of whoever reads may be wrong. Never a secret.
 */
export interface StatusDocument extends StatusSummary {
  readonly tenants: Readonly<Record<string, TenantStatus>>;
  readonly history: HistoryStatus;
}

/** All of it but what grows with tenants and time. */
export interface StatusSummary {
  readonly version: string;
  /** ISO 8601; what `history` and `lastLoad` are to be compared with. */
  readonly now: string;
  readonly upSeconds: number;
  readonly draining: boolean;
  /** Requests whose answer has not ended yet. */
  readonly inFlight: number;
  readonly accounts: Readonly<Record<string, AccountStatus>>;
  readonly upstreams: Readonly<Record<string, UpstreamStatus>>;
  /** Requests of no tenant that is configured: unknown keys, unknown paths. */
  readonly unattributed: Use;
  /** How far back `recent` reaches, here and of each tenant: five minutes, or less after the start. */
  readonly recentSeconds: number;
  readonly cache: CacheStatus;
  readonly state: StateStatus;
  readonly revision: string;
  /** Options that were changed, and take effect only after a restart. */
  readonly needsRestart: readonly string[];
  readonly lastLoad: LoadStatus;
}

export interface AccountStatus {
  readonly limit: number;
  readonly ceiling: number;
  readonly slotsInUse: number;
  readonly slotsForeign: number;
  /** Until when the upstream asked the account to wait; 0 if it is not held. */
  readonly heldForMs: number;
  readonly waiting: number;
  /** That count together, this one included; 0 before the others were heard of. */
  readonly replicas: number;
  /** In order of preference. */
  readonly credentials: readonly CredentialStatus[];
}

export interface CredentialStatus {
  readonly id: string;
  readonly kind: 'apiKey' | 'login';
  /** The next request goes with this one. */
  readonly inUse: boolean;
  /** When it was last used; false before that. */
  readonly failing: boolean;
  /** The rest of its backoff; 0 if it can be used. */
  readonly backoffMs: number;
  readonly reason: 'rejected' | 'unreachable' | 'throttled' | null;
  /** What is left of a login token; null for a key, and where there is no token. */
  readonly expiresInMs: number | null;
}

export interface UpstreamStatus {
  /** Open: nothing is sent to it. Half-open: two at a time, to see whether it is back. */
  readonly breaker: 'closed' | 'half-open' | 'open';
  /** What is left of an open one's pause; 0 otherwise. */
  readonly openForMs: number;
  readonly inFlight: number;
  /** For fewer than `maxInFlight` to be under way. */
  readonly waiting: number;
}

export interface TenantStatus {
  readonly account: string;
  readonly disabled: boolean;
  readonly quota: {
    readonly limit: number;
    readonly remaining: number;
    readonly resetMs: number;
    readonly burst: number;
  };
  readonly waiting: number;
  readonly recent: Use;
}

/** Of the last `recentSeconds`. */
export interface Use {
  readonly requests: number;
  /** By the gateway itself. */
  readonly refused: number;
  /** Answers that needed no request of their own upstream. */
  readonly saved: number;
}

export interface CacheStatus {
  /** In memory. */
  readonly entries: number;
  readonly bytes: number;
  readonly maxBytes: number;
  /** By account, whether writes through other replicas are heard of. */
  readonly inTouch: Readonly<Record<string, boolean>>;
  /** Reads that may be cached, and how many of them were answered without a request of their own. */
  readonly recent: { readonly reads: number; readonly hits: number };
}

export interface StateStatus {
  readonly kind: 'embedded' | 'redis';
  readonly up: boolean;
  /** This replica works on its share of the ceiling. */
  readonly fallback: boolean;
}

export interface LoadStatus {
  readonly outcome: 'ok' | 'refused';
  /** ISO 8601. */
  readonly at: string;
  /** Why it was refused; the first of them. */
  readonly problems: readonly string[];
}

/** Samples, oldest first: `at` in milliseconds of the epoch, the rest in the same order. Null: there was no such account. */
export interface HistoryStatus {
  readonly everyMs: number;
  readonly keepMs: number;
  readonly at: readonly number[];
  readonly accounts: Readonly<Record<string, AccountHistory>>;
}

export interface AccountHistory {
  readonly slotsInUse: readonly (number | null)[];
  readonly slotsForeign: readonly (number | null)[];
  readonly waiting: readonly (number | null)[];
  /** 1 while the upstream had asked the account to wait. */
  readonly held: readonly (number | null)[];
}

/** One message of GET /events: of tenants the busiest alone, of the history what the reader does not have yet. */
export interface Frame {
  readonly status: StatusSummary;
  readonly tenants: {
    readonly count: number;
    /** By requests, then by who waits. */
    readonly busiest: readonly (TenantStatus & { readonly id: string })[];
    /** All others together. */
    readonly rest: Use & { readonly waiting: number };
  };
  readonly history: HistoryStatus;
}
