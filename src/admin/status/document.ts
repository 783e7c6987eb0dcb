/**
 * The JSON of `GET /status`, and of the frames for the page. Deadlines are given as the time that is left, because the reader's clock
 * may be wrong. It holds no secret.
 */
export interface StatusDocument extends StatusSummary {
  readonly tenants: Readonly<Record<string, TenantStatus>>;
  readonly history: HistoryStatus;
}

/** The parts that grow neither with tenants nor with time. */
export interface StatusSummary {
  readonly version: string;
  /** `listen.admin.name`; '' without one. */
  readonly deployment: string;
  /** Host name of this replica. */
  readonly replica: string;
  /** `listen.admin.runbookBaseUrl`. */
  readonly runbookBaseUrl: string | null;
  /** ISO 8601, to compare with `history` and `lastLoad`. */
  readonly now: string;
  readonly upSeconds: number;
  readonly draining: boolean;
  /** Requests whose response has not ended yet. */
  readonly inFlight: number;
  readonly accounts: Readonly<Record<string, AccountStatus>>;
  readonly upstreams: Readonly<Record<string, UpstreamStatus>>;
  /** Issuers of tokens, by name. */
  readonly issuers: Readonly<Record<string, IssuerStatus>>;
  readonly keys: KeyFindings;
  /** Requests without a configured tenant: unknown keys, unknown paths. */
  readonly unattributed: Use;
  /** Addresses that are blocked now, after too many failed authentications at this replica. */
  readonly blocked: BlockedStatus;
  /** The period of every `recent`: five minutes, or less after the start. */
  readonly recentSeconds: number;
  readonly cache: CacheStatus;
  readonly state: StateStatus;
  readonly revision: string;
  /** Changed options that take effect only after a restart. */
  readonly needsRestart: readonly string[];
  readonly lastLoad: LoadStatus;
}

export interface BlockedStatus {
  readonly count: number;
  /** The first ten. */
  readonly addresses: readonly BlockedAddressStatus[];
}

export interface BlockedAddressStatus {
  readonly port: 'traffic' | 'admin';
  /** An IPv6 network is shown as a range. */
  readonly address: string;
  readonly forMs: number;
  /** In `listen.trustedProxies`: valid keys and tokens are still accepted from it. */
  readonly isTrustedProxy: boolean;
  /** It has sent X-Forwarded-For without being trusted: it may be a proxy. */
  readonly sendsForwardedFor: boolean;
}

export interface AccountStatus {
  readonly limit: number;
  /** As Patchworks advertises it; null until three responses in a row have named one. */
  readonly advertisedLimit: number | null;
  /** In force: lower than configured while Patchworks advertises a lower limit. */
  readonly ceiling: number;
  readonly slotsInUse: number;
  readonly externalUsage: number;
  /** Time left of the cooldown; 0 without one. */
  readonly cooldownMs: number;
  readonly waiting: number;
  /** Replicas that share the quota, this one included; 0 before it has joined. */
  readonly replicas: number;
  /** In order of preference. */
  readonly credentials: readonly CredentialStatus[];
  /** By name. */
  readonly budgets: Readonly<Record<string, BudgetStatus>>;
}

/** A budget of an account, or a tenant's part of it. */
export interface BudgetStatus {
  readonly per: 'day' | 'month';
  readonly timeZone: string;
  /** Null: the tenant has no part of its own. */
  readonly limit: number | null;
  readonly used: number;
  /** Requests that may still be sent; of a tenant, no more than the account has left. */
  readonly left: number;
  /** From so many on an alert is due; null without a limit. */
  readonly warnAt: number | null;
  /** ISO 8601. */
  readonly resets: string;
  readonly resetsInMs: number;
  /** Time until nothing is left, at the average rate of the period so far; null if that is not before the reset. */
  readonly endsInMs: number | null;
  /** Requests used at the reset, at that rate. */
  readonly projected: number;
}

export interface CredentialStatus {
  readonly id: string;
  readonly kind: 'apiKey' | 'login' | 'header' | 'query';
  /** Routes name it, and use no other. */
  readonly named: boolean;
  /** The next request is sent with this credential. */
  readonly inUse: boolean;
  /** Whether its last use failed; false before the first. */
  readonly failing: boolean;
  /** Time left of the backoff after `reason`; 0 if the credential can be used. */
  readonly backoffMs: number;
  readonly reason: 'rejected' | 'unreachable' | 'throttled' | null;
  /** Time left of the login token; null for a key, and without a token. */
  readonly expiresInMs: number | null;
}

interface UpstreamStatus {
  /** Open: nothing is sent. Half-open: two requests at a time test whether the upstream works again. */
  readonly breaker: 'closed' | 'half-open' | 'open';
  /** The only tenant for which the breaker is not closed, because no other has failures; null: it is for all. */
  readonly breakerTenant: string | null;
  /** Time left until the breaker lets a request through; 0 if it is not open. */
  readonly openForMs: number;
  readonly inFlight: number;
  /** Requests that wait for a permit (`maxInFlight`). */
  readonly waiting: number;
}

export interface IssuerStatus {
  /** Public keys in use; 0: none could be read yet, and its tokens get 503. */
  readonly keys: number;
  /** ISO 8601: when they were read; null: never. */
  readonly readAt: string | null;
  /** Why they could not be read at the last attempt; null: they could. */
  readonly problem: string | null;
}

export interface TenantStatus {
  /** The first of `accounts`: `quota` is that in it. */
  readonly account: string;
  readonly accounts: readonly string[];
  readonly disabled: boolean;
  /** `observe`: its rate, budgets and `allow` are counted in `recent.wouldReject`, and not enforced. */
  readonly enforcement: 'enforce' | 'observe';
  readonly quota: {
    readonly limit: number;
    readonly remaining: number;
    readonly resetMs: number;
    readonly burst: number;
  };
  /** By name. */
  readonly budgets: Readonly<Record<string, BudgetStatus>>;
  readonly waiting: number;
  readonly recent: Use;
  readonly keys: readonly KeyStatus[];
}

/** A key or an identity of a tenant. */
export interface KeyStatus {
  readonly id: string;
  /** `identity`: callers with a token or a client certificate. */
  readonly kind: 'key' | 'identity';
  /** ISO 8601; null: it never expires. */
  readonly expires: string | null;
  /** Time left; 0: it has expired. Null: it never expires. */
  readonly expiresInMs: number | null;
  /** ISO 8601, to the minute. Null: no use is known; without Redis, none since the start of this process. */
  readonly lastUsed: string | null;
  /** Time since the last use, or since a gateway first had this key in its configuration. */
  readonly unusedForMs: number;
}

/** Keys of enabled tenants that an operator should look at. Each is in one list at most. */
export interface KeyFindings {
  readonly expired: KeyNames;
  /** They expire within 14 days. */
  readonly ending: KeyNames;
  /** Not used for 30 days. */
  readonly unused: KeyNames;
}

export interface KeyNames {
  readonly count: number;
  /** `tenant/key` of the first ones. */
  readonly first: readonly string[];
}

/** Requests of the last `recentSeconds`. */
export interface Use {
  readonly requests: number;
  /** Rejected by the gateway. */
  readonly refused: number;
  /** Not rejected, because the tenant's limits are observed and not enforced. */
  readonly wouldReject: number;
  /** Responses without a request to the upstream of their own. */
  readonly saved: number;
}

interface CacheStatus {
  /** Entries in memory. */
  readonly entries: number;
  readonly bytes: number;
  readonly maxBytes: number;
  /** By account: whether this replica receives the invalidations of the others. */
  readonly inTouch: Readonly<Record<string, boolean>>;
  /** Reads that may be cached, and those of them that were answered from the cache. */
  readonly recent: { readonly reads: number; readonly hits: number };
}

export interface StateStatus {
  readonly kind: 'embedded' | 'redis';
  readonly up: boolean;
  /** Redis is down, and this replica uses its share of the ceiling. */
  readonly fallback: boolean;
  /** Error of the last seconds: its code, or `unreachable`, and the server's own words. Null without one. */
  readonly problem: { readonly code: string; readonly reason: string } | null;
  /** `maxmemory-policy` of Redis, and whether it removes keys when its memory is full; null while that is not known. */
  readonly eviction: { readonly policy: string; readonly removes: boolean } | null;
}

export interface LoadStatus {
  readonly outcome: 'ok' | 'refused';
  /** ISO 8601. */
  readonly at: string;
  /** The first reasons of a rejected load. */
  readonly problems: readonly string[];
}

/** Samples, oldest first: `at` in milliseconds of the epoch, the others in the same order. Null: the account did not exist. */
export interface HistoryStatus {
  readonly everyMs: number;
  readonly keepMs: number;
  readonly at: readonly number[];
  readonly accounts: Readonly<Record<string, AccountHistory>>;
}

export interface AccountHistory {
  readonly slotsInUse: readonly (number | null)[];
  readonly externalUsage: readonly (number | null)[];
  readonly waiting: readonly (number | null)[];
  /** 1 during a cooldown. */
  readonly cooldown: readonly (number | null)[];
}

/** A message of `GET /events`: only the busiest tenants, and only the samples that the reader does not have. */
export interface Frame {
  readonly status: StatusSummary;
  readonly tenants: {
    readonly count: number;
    /** By requests, then by waiting requests. */
    readonly busiest: readonly (TenantStatus & { readonly id: string })[];
    /** Sum of all other tenants. */
    readonly rest: Use & { readonly waiting: number };
  };
  readonly history: HistoryStatus;
}

/** Each role may do what the ones before it may. */
export type Role = 'metrics' | 'read' | 'operate';

/** The holder of an admin token, never the token itself: the first message of `GET /events`. */
export interface Holder {
  readonly id: string;
  readonly role: Role;
}
