import type { CacheEntry, CacheStore } from '../cache/store.ts';
import type { MemoryCache } from './memory/cache.ts';
import type { SharedAnswers } from './redis/answers.ts';

/** Memory first; what is not there is looked for in Redis, and kept here from then on. A hit in memory asks nobody. */
export function createTiers(memory: MemoryCache, shared: SharedAnswers): CacheStore {
  return {
    get(key) {
      return memory.get(key) ?? fromShared(key);
    },
    getShared: fromShared,
    set(key, entry, keepMs) {
      memory.set(key, entry, keepMs);
      shared.set(key, entry, keepMs);
    },
    // What another replica has stored meanwhile may be newer: it is found out of date by whoever reads it.
    delete: (key) => memory.delete(key),
    size: () => memory.size(),
  };

  async function fromShared(key: string): Promise<CacheEntry | undefined> {
    const found = await shared.get(key);
    if (found === undefined) return undefined;
    memory.set(key, found.entry, found.keepMs);
    return found.entry;
  }
}
