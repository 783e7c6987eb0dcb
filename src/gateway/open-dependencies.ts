import { createAbuseLimits } from '../adapters/abuse-limits.ts';
import { createMemoryCache } from '../adapters/memory/cache.ts';
import { createKeyUseStore } from '../adapters/redis/key-use/key-use-store.ts';
import { createUndiciTransport } from '../adapters/undici/transport.ts';
import { createUnknownKeyLog } from '../auth/authenticate.ts';
import { KeyUses } from '../auth/key-use.ts';
import { BodyMemory } from '../body-memory.ts';
import { type Clock, elapsed, type Random } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { Log, Meter, Tracer } from '../ports.ts';
import { type AdmissionQueue, createAdmissionQueue } from '../quota/admission-queue.ts';
import { createAddressWarnings, createLineLimit } from '../server/line-limit.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import { createRedactor } from '../telemetry/redact.ts';
import type { OpenTracer } from '../telemetry/tracing.ts';
import { createUpstreams } from '../upstream/upstreams.ts';
import { openCacheBackend } from './cache-backend.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';
import type { SharedDependencies } from './dependencies.ts';
import { metricSources } from './metric-sources.ts';
import { openQuotaBackend } from './quota-backend.ts';

/** Opens what holds state, connections or counts. Nothing connects or listens before the gateway starts. */
export function openDependencies(options: {
  /** Settings of the start. Restart-only options keep these values. */
  readonly settings: Settings;
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logTo?: { write(line: string): void };
  /** Asked only after the first config snapshot is built. */
  readonly current: () => ConfigSnapshot;
}) {
  const { settings: opened, version, clock, random, current } = options;
  const redactor = createRedactor();
  for (const secret of opened.secrets) redactor.add(secret.reveal());
  const destination = options.logTo;
  const log = createLogger({ ...opened.log, version, redactor, ...(destination && { destination }) });
  const metrics: Metrics = createMetrics({
    version,
    sources: metricSources(current, () => log.dropped()),
    onUnreadable: (family, error) => log.error({ family, err: error }, 'a family of metrics cannot be read'),
  });
  const common = { settings: opened, clock, meter: metrics, log };
  const state = openQuotaBackend({
    ...common,
    onChange: () => admissionQueue.reconsider(),
    onObservedChange: () => observedQueue.reconsider(),
  });
  const { quotaStore } = state;
  const admissionQueue: AdmissionQueue = createAdmissionQueue({ quotaStore, clock });
  const observedQueue: AdmissionQueue = createAdmissionQueue({ quotaStore: state.observedStore, clock });
  const unknownKeyLimit = createLineLimit({
    ...{ clock, perKey: 1, total: 10 },
    onLeftOut: (requests) => log.warn({ requests }, 'more unknown keys rejected'),
  });
  const addressWarnings = createAddressWarnings({
    ...{ log, clock },
    isTrustedProxy: (address) => current().dependencies.trustedProxies.includes(address.replace('/64', '')),
  });
  const memory = createMemoryCache({ maxBytes: opened.cache.memoryBytes, clock, meter: metrics });
  const shared: SharedDependencies = {
    ...{ clock, random, log, metrics, redactor, state, quotaStore, admissionQueue, observedQueue },
    ...{ memory, cache: openCacheBackend({ ...common, memory }) },
    bodyMemory: new BodyMemory(opened.limits.bufferedTotalBytes, clock),
    transport: createUndiciTransport({ clock }),
    upstreams: createUpstreams({ clock, random, log }),
    unknownKey: createUnknownKeyLog(log, unknownKeyLimit),
    keyUses: new KeyUses({ clock, log, store: state.redis && createKeyUseStore(state.redis) }),
    addressWarnings,
    ...createAbuseLimits({
      ...{ ...common, limits: opened.limits, redis: state.redis },
      onBlocked: (address, forMs) => addressWarnings.blocked('traffic', address, forMs),
    }),
  };
  return { shared, tracing: openTracing({ ...common, version }) };
}

/** Above what an export may take with all its attempts: nothing of it is left to keep the process alive. */
const FLUSH_MS = 3_500;

/** OpenTelemetry is loaded here, and only if spans have somewhere to go. */
function openTracing(options: {
  readonly settings: Settings;
  readonly version: string;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
}) {
  const { clock, log } = options;
  const { exporter } = options.settings.tracing;
  let open: OpenTracer | null = null;
  return {
    /** Null: there are no traces, and never will be. */
    tracer: exporter && ({ request: (headers) => open?.request(headers) ?? null } satisfies Tracer),
    /** Loads what traces need; to be awaited before the first request. */
    async start(): Promise<void> {
      if (exporter === null) return;
      const { createTracer } = await import('../telemetry/tracing.ts');
      const headers = Object.fromEntries([...exporter.headers].map(([name, value]) => [name, value.reveal()]));
      open = createTracer({ ...options, ...exporter, headers });
    },
    /** Sends what is left, if that can be done within {@link FLUSH_MS}. */
    async stop(): Promise<void> {
      if (open === null) return;
      // Told by the exporter already.
      const stopped = open.stop().catch(() => log.debug({}, 'spans were left behind'));
      open = null;
      await Promise.race([stopped, elapsed(clock, FLUSH_MS)]);
    },
  };
}
