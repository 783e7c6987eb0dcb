import { LRUCache } from 'lru-cache';
import { invalidates } from '../../cache/invalidation.ts';
import { accountOf, pathOf } from '../../cache/key.ts';
import type { CacheEntry, CacheStore, Invalidation, InvalidationLog, InvalidationTarget } from '../../cache/store.ts';
import type { Clock } from '../../clock.ts';
import type { Meter } from '../../ports.ts';
import { canonicalise } from '../../routing/canonical-path.ts';

/** Objects, list nodes and map slots around an entry, measured roughly: many small entries are not free. */
const OVERHEAD_BYTES = 512;

/** Responds synchronously. */
export interface MemoryCache extends CacheStore {
  get(key: string): CacheEntry | undefined;
  getShared(key: string): null;
  size(): { readonly entries: number; readonly bytes: number };
  /** Frees the memory of invalidated responses of an account. They are not served anyway: see InvalidationLog. */
  purge(account: string, invalidation: Invalidation): { readonly responses: number };
}

/** A store in this process, bounded by bytes; the least recently used entries are evicted first. */
export function createMemoryCache(options: {
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly meter: Meter;
}): MemoryCache {
  const { clock, meter } = options;
  if (!(options.maxBytes >= 1)) {
    // lru-cache reads a size of 0 as unbounded.
    const size = () => ({ entries: 0, bytes: 0 });
    const nothing = { get: () => undefined, getShared: () => null, set: () => {}, delete: () => {} };
    return { ...nothing, size, purge: () => ({ responses: 0 }) };
  }
  const entries = new LRUCache<string, Item>({
    maxSize: options.maxBytes,
    dispose: (_item, _key, reason) => {
      if (reason === 'evict') meter.cacheOperation('memory', 'evict');
    },
  });

  /** The entry, unless it has expired. lru-cache has a TTL of its own, but reads a clock that cannot be injected. */
  const find = (key: string): CacheEntry | undefined => {
    const item = entries.get(key);
    if (item === undefined) return undefined;
    if (item.expiry > clock.monotonic()) return item.entry;
    entries.delete(key);
    return undefined;
  };

  return {
    get(key) {
      const entry = find(key);
      if (entry === undefined) meter.cacheOperation('memory', 'miss');
      // A Vary record is not a response: the lookup of its variant is counted.
      else if (entry.kind === 'response') meter.cacheOperation('memory', 'hit');
      return entry;
    },
    getShared: () => null,
    set(key, entry, keepMs) {
      const size = sizeOf(key, entry);
      if (size > options.maxBytes) {
        // The previous entry is out of date. lru-cache would remove it too, but not report it.
        entries.delete(key);
        meter.cacheOperation('memory', 'skip');
        return;
      }
      entries.set(key, { entry, expiry: clock.monotonic() + keepMs }, { size });
      if (entry.kind === 'response') meter.cacheOperation('memory', 'store');
    },
    delete: (key) => void entries.delete(key),
    size: () => ({ entries: entries.size, bytes: entries.calculatedSize }),
    purge(account, invalidation) {
      const gone = [...entries].filter(
        ([key, { entry }]) => accountOf(key) === account && isInvalidated(key, entry, invalidation),
      );
      for (const [key] of gone) entries.delete(key);
      return { responses: gone.filter(([, { expiry }]) => expiry > clock.monotonic()).length };
    },
  };
}

/** A Vary record is no response: it stays. */
function isInvalidated(key: string, entry: CacheEntry, invalidation: Invalidation): boolean {
  if (entry.kind !== 'response') return false;
  const canonical = canonicalise(pathOf(key));
  return canonical.ok && invalidates(invalidation, { segments: canonical.target.segments, tags: entry.tags });
}

interface Item {
  readonly entry: CacheEntry;
  /** On the monotonic clock. */
  readonly expiry: number;
}

/** Strings are counted as two bytes a character, the worst case. */
function sizeOf(key: string, entry: CacheEntry): number {
  let bytes = OVERHEAD_BYTES + key.length * 2;
  if (entry.kind === 'vary') return bytes + entry.fields.join().length * 2;
  for (const item of entry.headers) bytes += item.length * 2;
  return bytes + entry.body.length;
}

/** A store that all replicas share. */
interface SharedTier {
  /** `keepMs`: how much longer the entry is kept. */
  get(key: string): Promise<{ readonly entry: CacheEntry; readonly keepMs: number } | undefined>;
  set(key: string, entry: CacheEntry, keepMs: number): void;
}

/** Memory in front of a shared tier, whose entries are copied to memory when they are read. */
export function createTieredCache(memory: MemoryCache, shared: SharedTier): CacheStore {
  const getShared = async (key: string): Promise<CacheEntry | undefined> => {
    const found = await shared.get(key);
    if (found === undefined) return undefined;
    memory.set(key, found.entry, found.keepMs);
    return found.entry;
  };
  return {
    get: (key) => memory.get(key) ?? getShared(key),
    getShared,
    set(key, entry, keepMs) {
      memory.set(key, entry, keepMs);
      shared.set(key, entry, keepMs);
    },
    // In memory only: the shared entry may be a newer one of another replica, and every reader checks it.
    delete: (key) => memory.delete(key),
  };
}

interface LoggedWrite extends Invalidation {
  readonly at: number;
}

interface AccountLog {
  latest: number;
  /** In order, the latest last. */
  readonly writes: LoggedWrite[];
  /** Characters of their patterns. */
  length: number;
}

export type LocalInvalidationLog = ReturnType<typeof createInvalidationLog>;

/** Characters of the patterns that are kept for an account: callers choose the paths, as long as their headers may be. */
const MAX_LENGTH = 8 * 1024 * 1024;

/**
 * The log of this process; see {@link InvalidationLog}.
 *
 * @param maxWrites how many writes of an account are kept, at least 1; every response older than all of them counts as invalid
 */
export function createInvalidationLog(maxWrites = 4096) {
  // Accounts come from the configuration, which bounds the map.
  const logs = new Map<string, AccountLog>();

  return {
    latestWrite: (account: string): number => logs.get(account)?.latest ?? 0,

    isValidSince(account: string, target: InvalidationTarget, since: number): boolean {
      const log = logs.get(account);
      if (log === undefined || log.latest <= since) return true;
      const oldest = log.writes[0];
      if (oldest === undefined || since < oldest.at - 1) return false;
      for (let i = log.writes.length - 1; i >= 0; i--) {
        const write = log.writes[i] as LoggedWrite;
        if (write.at <= since) return true;
        if (invalidates(write, target)) return false;
      }
      return true;
    },

    invalidate(account: string, invalidation: Invalidation): void {
      let log = logs.get(account);
      if (log === undefined) {
        log = { latest: 0, writes: [], length: 0 };
        logs.set(account, log);
      }
      log.latest++;
      log.writes.push({ at: log.latest, ...invalidation, patterns: invalidation.patterns.map(detached) });
      log.length += lengthOf(invalidation);
      while (log.writes.length > 1 && (log.writes.length > maxWrites || log.length > MAX_LENGTH)) {
        log.length -= lengthOf(log.writes.shift() as LoggedWrite);
      }
    },

    disconnectedSince: () => null,
  } satisfies InvalidationLog;
}

/** Copies: a part of a string keeps the whole string in memory, here the target of a request. */
function detached(pattern: readonly string[]): readonly string[] {
  return pattern.map((segment) => Buffer.from(segment).toString());
}

function lengthOf({ patterns }: Invalidation): number {
  return patterns.reduce((sum, pattern) => sum + pattern.reduce((length, segment) => length + segment.length, 0), 0);
}
