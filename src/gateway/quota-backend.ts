import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { createMemoryLedger } from '../adapters/memory/ledger.ts';
import { openRedis, type RedisConnection } from '../adapters/redis/connection.ts';
import { createRedisLedger } from '../adapters/redis/ledger.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Log, Meter } from '../ports.ts';
import type { Ledger } from '../quota/ledger.ts';
import { LATE_ARRIVAL_MS } from './constants.ts';
import { planOf } from './derive.ts';

/** Where slots and tokens are counted: in this process, or in Redis for all replicas. */
export interface QuotaBackend {
  readonly kind: 'embedded' | 'redis';
  readonly ledger: Ledger;
  /** For the guards. */
  readonly redis: { readonly client: RedisConnection['client']; readonly prefix: string } | null;
  /** Resolves when the first attempt to join the others is over; it goes on trying. */
  start(): Promise<void>;
  /** Tells the others that this replica is gone, and closes. Bounded by the deadline of a command. */
  stop(): Promise<void>;
  status(): { readonly up: boolean; readonly fallback: boolean };
}

/** A request may take this long to be uploaded before it counts upstream. */
const LONGEST_UPLOAD_MS = 300_000;

export function openQuotaBackend(options: {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
  /** What those who wait were told no longer holds. */
  readonly onChange: () => void;
}): QuotaBackend {
  const { settings, clock, meter, log } = options;
  const { redis } = settings;
  const plan = planOf(settings);
  if (redis === null) {
    return {
      kind: 'embedded',
      ledger: createMemoryLedger({ clock, plan, meter, log }),
      redis: null,
      start: async () => {},
      stop: async () => {},
      status: () => ({ up: true, fallback: false }),
    };
  }
  const connection = openRedis({ settings: redis, log });
  const longestTimeoutMs = Math.max(...[...settings.upstreams.values()].map(({ timeoutMs }) => timeoutMs));
  const ledger = createRedisLedger({
    ...redis,
    connection,
    clock,
    plan,
    meter,
    log,
    replica: replicaName(settings),
    flightMs: longestTimeoutMs + LONGEST_UPLOAD_MS + LATE_ARRIVAL_MS,
    lateArrivalMs: LATE_ARRIVAL_MS,
    onChange: options.onChange,
  });
  return {
    kind: 'redis',
    ledger,
    redis: { client: connection.client, prefix: redis.prefix },
    start: () => ledger.start(),
    async stop() {
      await ledger.stop();
      connection.close();
    },
    status: () => ledger.state(),
  };
}

/**
 * The same after a restart, and no other's at the same time: a process that holds the port proves that the one before it is
 * gone, and takes over its place among the replicas.
 */
function replicaName({ listen }: Settings): string {
  const { port } = listen.traffic;
  return `${hostname()}:${port === 0 ? randomUUID().slice(0, 8) : port}`;
}
