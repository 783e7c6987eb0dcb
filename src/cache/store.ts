import type { EpochMs, MonotonicMs } from '../clock.ts';
import type { HeaderList } from '../context.ts';
import type { StaleWindows } from './rules.ts';

/**
 * Where answers are kept: in memory, and behind it in Redis for all replicas, which is why a look-up may be a promise. A
 * store knows nothing of freshness: that is policy.
 */
export interface CacheStore {
  get(key: string): CacheEntry | undefined | Promise<CacheEntry | undefined>;
  /** Looks past what is nearest, which is out of date; null where there is nothing beyond. */
  getShared(key: string): Promise<CacheEntry | undefined> | null;
  /** Keeps the entry until about `keepMs` from now; a store may drop any entry at any time. */
  set(key: string, entry: CacheEntry, keepMs: number): void;
  /** Frees the room of an entry that will never be served again. */
  delete(key: string): void;
  /** Null for a store that cannot tell. */
  size(): { readonly entries: number; readonly bytes: number } | null;
}

export type CacheEntry = StoredResponse | VaryRecord;

export interface StoredResponse {
  readonly kind: 'response';
  readonly status: number;
  /** Without hop-by-hop, Set-Cookie, rate-limit and credential fields; complete but for length, Age and Cache-Status. */
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** An entity tag of the gateway's own, over the body; null where upstream has named it. */
  readonly generatedEtag: string | null;
  /** Under which an operator can purge it. */
  readonly tags: readonly string[];
  /** When the headers of the answer arrived: for dates that leave the process. */
  readonly storedAt: EpochMs;
  /**
   * The same moment on this process's own clock: what freshness is counted from, since a wall clock stepped back would
   * keep an answer fresh too long. A tier outside the process derives it from `storedAt` when it reads.
   */
  readonly receivedAt: MonotonicMs;
  /** When it was asked for: a write that was answered before that is in it. */
  readonly requestedAt: MonotonicMs;
  /** How old it already was when it arrived (its Age, RFC 9111 section 4.2.3). */
  readonly initialAgeMs: number;
  /** How long it is fresh, counted from `arrivedAt - initialAgeMs`. */
  readonly freshForMs: number;
  /** How long after that it may be served all the same. */
  readonly stale: StaleWindows;
  /** Up to which write of its account the answer is known to be untouched (see drops.ts). Moves on with each look-up. */
  validUpToWrite: number;
}

/** Stands under the primary key of answers that vary, and says which request fields make the rest of their key. */
export interface VaryRecord {
  readonly kind: 'vary';
  /** Lower case, sorted, never empty. */
  readonly fields: readonly string[];
}

/** How old an answer is now (RFC 9111 section 4.2.3). */
export function ageOf(answer: StoredResponse, now: MonotonicMs): number {
  return now - answer.receivedAt + answer.initialAgeMs;
}
