import { randomUUID } from 'node:crypto';
import type { MemoryCache } from '../adapters/memory/cache.ts';
import { createMemoryIdempotencyStore } from '../adapters/memory/idempotency.ts';
import { createSharedAnswers } from '../adapters/redis/answers.ts';
import { openBus } from '../adapters/redis/bus.ts';
import { openRedis } from '../adapters/redis/connection.ts';
import { createSharedDrops } from '../adapters/redis/drops.ts';
import { createSharedFlights } from '../adapters/redis/flights.ts';
import { openListener } from '../adapters/redis/listener.ts';
import { createSharedReplays } from '../adapters/redis/replay.ts';
import { createTiers } from '../adapters/tiers.ts';
import { ExpiringSet } from '../cache/brief.ts';
import { Coalescing } from '../cache/coalescing.ts';
import { createInvalidationLog } from '../cache/invalidation-log.ts';
import type { CacheState } from '../cache/options.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { IdempotencyStore } from '../idempotency/store.ts';
import type { Log, Meter } from '../ports.ts';

/** What the cache remembers: in this process, and where there is a Redis, with all replicas. */
export interface OpenCache extends CacheState {
  /** Hears of the writes of all replicas to these accounts from now on. Resolves when each was asked for once. */
  follow(accounts: readonly string[]): Promise<void>;
  stop(): Promise<void>;
  /** Of writes with an Idempotency-Key: the same connection. */
  readonly replays: IdempotencyStore;
}

export function openCache(options: {
  readonly settings: Settings;
  readonly memory: MemoryCache;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
}): OpenCache {
  const { settings, memory, clock, meter, log } = options;
  const own = { coalescing: new Coalescing(), notShareable: new ExpiringSet(clock), failing: new ExpiringSet(clock) };
  const { redis, idempotency } = settings;
  if (redis === null) {
    const alone = { store: memory, invalidations: createInvalidationLog(), replicas: null };
    const replays = createMemoryIdempotencyStore({ ...idempotency, maxBytes: idempotency.memoryBytes, clock });
    return { ...own, ...alone, replays, follow: async () => {}, stop: async () => {} };
  }
  // Apart from the ledger's: a large answer on the way must not hold up a decision.
  const connection = openRedis({ settings: redis, log });
  const { client, isReady } = connection;
  const { prefix } = redis;
  const replica = randomUUID();
  const bus = openBus({ listener: openListener({ settings: redis, clock, log }), client, prefix, log });
  const drops = createSharedDrops({ client, bus, isReady, prefix, replica, newBase: randomUUID, clock, log });
  connection.onReady(() => drops.catchUp());
  const close = async (): Promise<void> => {
    await drops.stop();
    bus.close();
    connection.close();
  };
  const replays = createSharedReplays({ client, isReady, prefix, keepMs: idempotency.ttlMs });
  const lasting = { ...own, invalidations: drops, replays, follow: drops.follow, stop: close };
  if (!settings.cache.shared) {
    return { ...lasting, store: memory, replicas: null };
  }
  const answers = createSharedAnswers({ client, isReady, drops, prefix, clock, meter });
  const others = createSharedFlights({ client, isReady, answers, bus, drops, prefix, replica, clock });
  return { ...lasting, store: createTiers(memory, answers), replicas: others };
}
