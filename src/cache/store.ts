import type { EpochMs, MonotonicMs } from '../clock.ts';
import type { HeaderList } from '../context.ts';

/**
 * Where responses are stored: in memory, and behind it in Redis for all replicas, so a lookup may be a promise. A store knows
 * nothing of freshness, which is policy.
 */
export interface CacheStore {
  get(key: string): CacheEntry | undefined | Promise<CacheEntry | undefined>;
  /** Reads the shared tier only, where the nearest tier is out of date; null where there is no shared tier. */
  getShared(key: string): Promise<CacheEntry | undefined> | null;
  /** Keeps the entry until about `keepMs` from now; a store may evict any entry at any time. */
  set(key: string, entry: CacheEntry, keepMs: number): void;
  /** Frees the memory of an entry that will never be served again. */
  delete(key: string): void;
}

export type CacheEntry = StoredResponse | VaryRecord;

export interface StoredResponse {
  readonly kind: 'response';
  readonly status: number;
  /** Without hop-by-hop, Set-Cookie, rate-limit and credential fields; complete except for length, Age and Cache-Status. */
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** The gateway's own entity tag of the body; null where the upstream sent one. */
  readonly generatedEtag: string | null;
  /** An operator can purge by these. */
  readonly tags: readonly string[];
  /** When the response headers arrived: for dates that leave the process. */
  readonly storedAt: EpochMs;
  /**
   * The same moment on this process's own clock. Freshness counts from it, because a wall clock that is set back would keep a
   * response fresh too long. A tier outside the process derives it from `storedAt`.
   */
  readonly receivedAt: MonotonicMs;
  /** When the request was sent: the response includes every write that was completed before. */
  readonly requestedAt: MonotonicMs;
  /** Age of the response when it arrived (RFC 9111 section 4.2.3). */
  readonly initialAgeMs: number;
  /** Freshness lifetime, counted from `receivedAt - initialAgeMs`. */
  readonly freshForMs: number;
  readonly stale: StaleWindows;
  /** The latest write of the account that is known not to invalidate it (see InvalidationLog). Each lookup updates it. */
  validUpToWrite: number;
}

/** Stored under the primary key of responses that vary; names the request fields in the rest of their key. */
interface VaryRecord {
  readonly kind: 'vary';
  /** Lower case, sorted, never empty. */
  readonly fields: readonly string[];
}

/** How long after its freshness a response may still be served, and when. */
export interface StaleWindows {
  /** At once, while it is fetched again. */
  readonly staleWhileRevalidateMs: number;
  /** When the upstream fails. */
  readonly staleIfErrorMs: number;
  /** When there is no slot for a request to the upstream. */
  readonly staleIfThrottledMs: number;
}

export const NEVER_STALE: StaleWindows = { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, staleIfThrottledMs: 0 };

/**
 * The writes of each account, which invalidate stored responses. A write is logged as path patterns. A stored response records up
 * to which write it is known to be valid, and catches up at its next lookup. So a write costs the same however many responses are
 * stored, a hit without a write since the last one costs one comparison, and a GET that overlapped with a write is recognised.
 *
 * The log must live as long as its store: with a new log over an old store, invalidated responses would pass as valid.
 */
export interface InvalidationLog {
  /** The latest write of the account: 0 before the first. */
  latestWrite(account: string): number;
  /** Whether no write after `since` has invalidated the target; false if the log does not reach back so far. */
  isValidSince(account: string, target: InvalidationTarget, since: number): boolean;
  /** Takes effect here at once. Resolves when no connected replica serves the invalidated responses any more. */
  invalidate(account: string, invalidation: Invalidation): void | Promise<void>;
  /** Since when writes through other replicas may be unknown; null while this replica is connected. */
  disconnectedSince(account: string): MonotonicMs | null;
}

export interface InvalidationTarget {
  /** Decoded segments of the path. */
  readonly segments: readonly string[];
  readonly tags: readonly string[];
}

export interface Invalidation {
  /** Path patterns. */
  readonly patterns: readonly (readonly string[])[];
  readonly tags?: readonly string[];
}
