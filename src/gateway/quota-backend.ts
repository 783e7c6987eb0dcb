import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { createBudgetFile, type Opened } from '../adapters/memory/budget-file.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import { openRedis, type RedisConnection } from '../adapters/redis/client/connection.ts';
import type { RedisFault } from '../adapters/redis/client/faults.ts';
import { type Eviction, watchEviction } from '../adapters/redis/client/faults.ts';
import { createRedisQuotaStore } from '../adapters/redis/quota/quota-store.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import { accountsIn, tenantQuotaIn } from '../config/tenant-accounts.ts';
import { LATE_ARRIVAL_MS } from '../context.ts';
import { type Log, type Meter, SILENT_LOG } from '../ports.ts';
import { enforcedPlan, observedPlan, observingQuotaStore } from '../quota/observe.ts';
import type { AccountQuota, QuotaPlan, QuotaStore, TenantQuota } from '../quota/quota-store.ts';

/** Slots and tokens are counted in this process, or in Redis for all replicas. */
export interface QuotaBackend {
  readonly kind: 'embedded' | 'redis';
  readonly quotaStore: QuotaStore;
  /** Decides as if the limits of observed tenants were enforced: see quota/observe.ts. */
  readonly observedStore: QuotaStore;
  /** For the abuse limits and the uses of keys, which are in the same Redis. */
  readonly redis: (Pick<RedisConnection, 'client' | 'onReady'> & { readonly prefix: string }) | null;
  /** Reads what was counted before the start. If that fails, nothing may be started. */
  open(): Promise<Opened>;
  /** Resolves when the first attempt to join the other replicas has ended; further attempts follow by themselves. */
  start(): Promise<void>;
  /** Leaves the other replicas and closes. Bounded by the deadline of a command. */
  stop(): Promise<void>;
  status(): { readonly up: boolean; readonly fallback: boolean };
  /** False: this replica has not joined the others, or Redis refuses its user and `onOutage` is closed: it rejects every request. */
  canAdmit(): boolean;
  /** Why Redis cannot be used, or the file of embedded state, in its own words. */
  fault(): Pick<RedisFault, 'code' | 'reason'> | null;
  /** How Redis goes on when its memory is full; null without Redis, or while that is not known. */
  eviction(): Eviction | null;
}

export function openQuotaBackend(options: {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
  /** The waiting times given to requests in the queue may no longer be right. */
  readonly onChange: () => void;
  /** The same for predictions of observed tenants. */
  readonly onObservedChange: () => void;
}): QuotaBackend {
  const { settings, clock, meter, log } = options;
  const { redis } = settings;
  const plan = planOf(settings);
  if (redis === null) {
    const file = settings.stateDir === null ? null : createBudgetFile({ directory: settings.stateDir, clock, log });
    const counts = file && { countsOf: file.countsOf };
    const enforced = createMemoryQuotaStore({ clock, plan: enforcedPlan(plan), meter, log, ...counts });
    const observedStore = createMemoryQuotaStore({ clock, plan: observedPlan(plan), meter, log: SILENT_LOG });
    return {
      kind: 'embedded',
      quotaStore: observingQuotaStore(enforced, observedStore, plan),
      observedStore,
      redis: null,
      open: async () => (file === null ? { ok: true } : file.open()),
      start: async () => {},
      stop: async () => file?.close(),
      status: () => ({ up: true, fallback: false }),
      canAdmit: () => true,
      fault: () => file?.fault() ?? null,
      eviction: () => null,
    };
  }
  const connection = openRedis({ settings: redis, clock, log });
  const eviction = watchEviction(connection, log);
  const longestTimeoutMs = Math.max(...[...settings.upstreams.values()].map(({ timeoutMs }) => timeoutMs));
  const common = {
    ...redis,
    connection,
    clock,
    meter,
    replica: replicaName(settings),
    // A request is uploaded within its timeout, and answered within another one.
    maxInFlightMs: 2 * longestTimeoutMs + LATE_ARRIVAL_MS,
  };
  const enforced = createRedisQuotaStore({ ...common, plan: enforcedPlan(plan), log, onChange: options.onChange });
  const observedStore = createRedisQuotaStore({
    ...{ ...common, plan: observedPlan(plan), prefix: `${redis.prefix}:observed`, log: SILENT_LOG },
    onChange: options.onObservedChange,
  });
  return {
    kind: 'redis',
    quotaStore: observingQuotaStore(enforced, observedStore, plan),
    observedStore,
    redis: { client: connection.client, onReady: connection.onReady, prefix: redis.prefix },
    open: async () => ({ ok: true }),
    async start() {
      await Promise.all([enforced.start(), observedStore.start()]);
    },
    async stop() {
      await Promise.all([enforced.stop(), observedStore.stop()]);
      connection.close();
    },
    status: () => {
      const { up, fallback } = enforced.state();
      return { up, fallback };
    },
    canAdmit: () => enforced.state().canAdmit,
    fault: connection.fault,
    eviction,
  };
}

/**
 * The quotas of all accounts and tenants.
 *
 * @param older settings that requests in flight still use. Their accounts and tenants stay known until those requests have
 *   ended; no slots are reserved for them.
 */
export function planOf(settings: Settings, older: readonly Settings[] = []): QuotaPlan {
  const accounts = new Map<string, AccountQuota>();
  const tenants = new Map<string, Map<string, TenantQuota>>();
  for (const each of [settings, ...older]) {
    for (const { id, quota } of each.accounts.values()) {
      if (accounts.has(id)) continue;
      accounts.set(id, quota);
      tenants.set(id, new Map());
    }
    for (const tenant of each.tenants.values()) {
      const { id, disabled, quota, enforcement } = tenant;
      // A disabled tenant cannot use the slots that are reserved for it.
      const reserved = each === settings && !disabled ? quota.reserved : 0;
      for (const account of accountsIn(tenant, each.accounts)) {
        const known = tenants.get(account.id);
        if (known?.has(id) !== false) continue;
        known.set(id, { ...tenantQuotaIn(tenant, account), reserved, observed: enforcement === 'observe' });
      }
    }
  }
  return { accounts, tenants };
}

/**
 * Stable over restarts and unique among running replicas: the process that holds the port proves that the one before it
 * has ended, and continues as the same replica.
 */
function replicaName({ listen }: Settings): string {
  const { port } = listen.traffic;
  return `${hostname()}:${port === 0 ? randomUUID().slice(0, 8) : port}`;
}
