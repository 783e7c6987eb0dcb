import type { EpochMs } from '../clock.ts';
import type { HeaderList } from '../exchange.ts';

/**
 * Where answers are kept. Memory implements it now; a second tier in Redis will, which is why a look-up may be a
 * promise. A store knows nothing of freshness: that is policy.
 */
export interface CacheStore {
  get(key: string): CacheEntry | undefined | Promise<CacheEntry | undefined>;
  /** Keeps the entry until about `keepMs` from now; a store may drop any entry at any time. */
  set(key: string, entry: CacheEntry, keepMs: number): void;
  /** Null for a store that cannot tell. */
  size(): { readonly entries: number; readonly bytes: number } | null;
}

export interface CacheEntry {
  readonly status: number;
  /** Without hop-by-hop, Set-Cookie, rate-limit and credential fields. */
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** When the headers of the answer arrived. */
  readonly storedAt: EpochMs;
  /** How old it already was then (its Age, RFC 9111 section 4.2.3). */
  readonly initialAgeMs: number;
  /** How long it is fresh, counted from `storedAt - initialAgeMs`. */
  readonly freshForMs: number;
}
