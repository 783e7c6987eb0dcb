import { LRUCache } from 'lru-cache';
import type { CacheEntry, CacheStore } from '../../cache/store.ts';
import type { Clock } from '../../clock.ts';
import type { Meter } from '../../observe.ts';

/** Objects, list nodes and map slots around an entry, measured roughly: what keeps many small entries from being free. */
const OVERHEAD_BYTES = 512;

/** A {@link CacheStore} in this process, bounded by bytes; the least recently used go first. */
export function createMemoryCache(options: {
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly meter: Meter;
}): CacheStore {
  const { clock, meter } = options;
  if (!(options.maxBytes >= 1)) {
    // A cache of no size is no cache; lru-cache would take 0 for unbounded.
    return { get: () => undefined, set: () => {}, delete: () => {}, size: () => ({ entries: 0, bytes: 0 }) };
  }
  const entries = new LRUCache<string, { readonly entry: CacheEntry; readonly until: number }>({
    maxSize: options.maxBytes,
    sizeCalculation: ({ entry }, key) => sizeOf(key, entry),
    dispose: (_value, _key, reason) => {
      if (reason === 'evict') meter.cacheOperation('memory', 'evict');
    },
  });
  return {
    get(key) {
      const found = entries.get(key);
      if (found === undefined) {
        meter.cacheOperation('memory', 'miss');
        return undefined;
      }
      if (found.until <= clock.monotonic()) {
        entries.delete(key);
        meter.cacheOperation('memory', 'miss');
        return undefined;
      }
      meter.cacheOperation('memory', 'hit');
      return found.entry;
    },
    set(key, entry, keepMs) {
      entries.set(key, { entry, until: clock.monotonic() + keepMs });
    },
    delete: (key) => void entries.delete(key),
    size: () => ({ entries: entries.size, bytes: entries.calculatedSize }),
  };
}

/** Strings are counted as two bytes a character, the worst case. */
function sizeOf(key: string, entry: CacheEntry): number {
  let bytes = OVERHEAD_BYTES + key.length * 2;
  if (entry.kind === 'signpost') return bytes + entry.fields.join().length * 2;
  for (const item of entry.headers) bytes += item.length * 2;
  return bytes + entry.body.length;
}
