import type { CacheEntry, CacheStore } from '../cache/store.ts';
import type { MemoryCache } from './memory/cache.ts';
import type { SharedAnswers } from './redis/answers.ts';

/** Memory in front of Redis: an entry found in Redis is stored in memory too. A hit in memory sends no command. */
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
    // Only here: the entry in Redis may be a newer one of another replica, and every reader checks it.
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
