import { createHash, randomUUID } from 'node:crypto';
import { createInvalidationLog, createTieredCache, type MemoryCache } from '../adapters/memory/cache.ts';
import { createMemoryIdempotencyStore } from '../adapters/memory/idempotency.ts';
import { createRedisCoalescing } from '../adapters/redis/cache/coalescing.ts';
import { createSharedInvalidationLog } from '../adapters/redis/cache/invalidation-log.ts';
import { createSharedResponses } from '../adapters/redis/cache/response-store.ts';
import { openRedis } from '../adapters/redis/client/connection.ts';
import type { RedisFault } from '../adapters/redis/client/faults.ts';
import { openPubSub } from '../adapters/redis/client/pubsub.ts';
import { createRedisIdempotencyStore } from '../adapters/redis/idempotency/idempotency-store.ts';
import type { Purge, Purged } from '../admin/purge.ts';
import { Coalescing, ExpiringSet } from '../cache/coalescing.ts';
import { EVERYTHING } from '../cache/invalidation.ts';
import type { CacheState } from '../cache/options.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { IdempotencyStore } from '../idempotency/store.ts';
import type { Log, Meter } from '../ports.ts';

/** Cache and idempotency records, in this process or shared with all replicas through Redis. */
export interface CacheBackend extends CacheState {
  /** Follows the invalidations of these accounts by all replicas. Resolves when each account was asked for once. */
  follow(accounts: readonly string[]): Promise<void>;
  stop(): Promise<void>;
  readonly idempotencyStore: IdempotencyStore;
  /** Why Redis cannot be used, in its own words. */
  fault(): RedisFault | null;
}

export function openCacheBackend(options: {
  readonly settings: Settings;
  readonly memory: MemoryCache;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
}): CacheBackend {
  const { settings, memory, clock, meter, log } = options;
  const own = { coalescing: new Coalescing(), notShareable: new ExpiringSet(clock), failing: new ExpiringSet(clock) };
  const { redis, idempotency } = settings;
  if (redis === null) {
    const alone = { store: memory, invalidations: createInvalidationLog(), replicas: null };
    const idempotencyStore = createMemoryIdempotencyStore({ ...idempotency, maxBytes: idempotency.memoryBytes, clock });
    return { ...own, ...alone, idempotencyStore, follow: async () => {}, stop: async () => {}, fault: () => null };
  }
  // A connection of its own: a large response in transfer must not delay an admission.
  const connection = openRedis({ settings: redis, clock, log });
  const { client, isReady } = connection;
  const { prefix } = redis;
  const replica = randomUUID();
  const pubsub = openPubSub({ settings: redis, client, prefix, clock, log });
  const shared = { client, isReady, pubsub, prefix, replica, clock };
  const invalidations = createSharedInvalidationLog({ ...shared, newLogName: randomUUID, log });
  connection.onReady(() => invalidations.catchUp());
  const idempotencyStore = createRedisIdempotencyStore({
    ...{ client, isReady, prefix, clock },
    keepMs: idempotency.ttlMs,
    tenantBytes: idempotency.memoryBytes,
  });
  let followed: readonly string[] = [...settings.accounts.keys()];
  const checkWrites = (): void => idempotencyStore.check(followed);
  connection.onReady(checkWrites);
  const follow = (accounts: readonly string[]): Promise<void> => {
    followed = accounts;
    checkWrites();
    return invalidations.follow(accounts);
  };
  const stop = async (): Promise<void> => {
    idempotencyStore.stop();
    await invalidations.stop();
    pubsub.close();
    connection.close();
  };
  const backend = { ...own, invalidations, idempotencyStore, follow, stop, fault: connection.fault };
  if (!settings.cache.shared) return { ...backend, store: memory, replicas: null };
  const responses = createSharedResponses({ ...shared, invalidations, meter });
  const replicas = createRedisCoalescing({ ...shared, responses, invalidations });
  return { ...backend, store: createTieredCache(memory, responses), replicas };
}

/**
 * Part of every cache key: it changes with the cache rules, the origins, and what routes change of a path, so that no response of
 * older settings is found.
 */
export function cacheNamespace({ cache, upstreams, routes }: Settings): string {
  const origins = [...upstreams].map(([id, { account, origin }]) => [id, account, origin]).sort();
  const rewritten = routes.filter(({ rewrite, credential }) => rewrite !== null || credential !== null);
  const relevant = JSON.stringify([cache.rules, cache.maxEntryBytes, origins, rewritten]);
  return createHash('sha256').update(relevant).digest('base64url').slice(0, 8);
}

/** Purges the cache of one account or all. Resolves when no replica serves a purged response any more. */
export async function purgeCache(
  {
    settings,
    cache,
    memory,
  }: { readonly settings: Settings; readonly cache: CacheState; readonly memory: MemoryCache },
  purge: Purge,
): Promise<Purged> {
  const known = [...settings.accounts.keys()];
  const { account, path, tag } = purge;
  if (account !== null && !known.includes(account)) {
    return { ok: false, detail: `There is no account "${account}"; known are ${known.join(', ')}.` };
  }
  const accounts = account === null ? known : [account];
  const everything = path === null && tag === null;
  const invalidation = everything
    ? EVERYTHING
    : { patterns: path === null ? [] : [path], tags: tag === null ? [] : [tag] };
  await Promise.all(accounts.map((each) => cache.invalidations.invalidate(each, invalidation)));
  const entries = accounts.reduce((sum, each) => sum + memory.purge(each, invalidation).responses, 0);
  return { ok: true, purged: { accounts, entries } };
}
