import { LRUCache } from 'lru-cache';
import type { CacheEntry, CacheStore } from '../../cache/store.ts';
import type { Clock } from '../../clock.ts';
import type { Meter } from '../../ports.ts';

/** Objects, list nodes and map slots around an entry, measured roughly: what keeps many small entries from being free. */
const OVERHEAD_BYTES = 512;

/** Answers at once: what is found here costs no promise on the way of a hit. */
export interface MemoryCache extends CacheStore {
  get(key: string): CacheEntry | undefined;
  getShared(key: string): null;
  size(): { readonly entries: number; readonly bytes: number };
}

/** A {@link CacheStore} in this process, bounded by bytes; the least recently used go first. */
export function createMemoryCache(options: {
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly meter: Meter;
}): MemoryCache {
  const { clock, meter } = options;
  if (!(options.maxBytes >= 1)) {
    // A cache of no size is no cache; lru-cache would take 0 for unbounded.
    const size = () => ({ entries: 0, bytes: 0 });
    return { get: () => undefined, getShared: () => null, set: () => {}, delete: () => {}, size };
  }
  const entries = new LRUCache<string, Held>({
    maxSize: options.maxBytes,
    dispose: (_held, _key, reason) => {
      if (reason === 'evict') meter.cacheOperation('memory', 'evict');
    },
  });

  /** The entry, unless its time is over. Not by lru-cache's own TTL: that reads a clock which tests cannot move. */
  const live = (key: string): CacheEntry | undefined => {
    const held = entries.get(key);
    if (held === undefined) return undefined;
    if (held.until > clock.monotonic()) return held.entry;
    entries.delete(key);
    return undefined;
  };

  return {
    get(key) {
      const entry = live(key);
      if (entry === undefined) meter.cacheOperation('memory', 'miss');
      // A signpost is not an answer yet: the look-up of its variant is what counts.
      else if (entry.kind === 'response') meter.cacheOperation('memory', 'hit');
      return entry;
    },
    getShared: () => null,
    set(key, entry, keepMs) {
      const size = sizeOf(key, entry);
      if (size > options.maxBytes) {
        // lru-cache would do the same, in silence: what was there before is out of date either way.
        entries.delete(key);
        meter.cacheOperation('memory', 'skip');
        return;
      }
      entries.set(key, { entry, until: clock.monotonic() + keepMs }, { size });
      if (entry.kind === 'response') meter.cacheOperation('memory', 'store');
    },
    delete: (key) => void entries.delete(key),
    size: () => ({ entries: entries.size, bytes: entries.calculatedSize }),
  };
}

interface Held {
  readonly entry: CacheEntry;
  /** On the monotonic clock. */
  readonly until: number;
}

/** Strings are counted as two bytes a character, the worst case. */
function sizeOf(key: string, entry: CacheEntry): number {
  let bytes = OVERHEAD_BYTES + key.length * 2;
  if (entry.kind === 'vary') return bytes + entry.fields.join().length * 2;
  for (const item of entry.headers) bytes += item.length * 2;
  return bytes + entry.body.length;
}
