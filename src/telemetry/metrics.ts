import { Counter, collectDefaultMetrics, Registry } from 'prom-client';
import type { FinishedRequest } from '../context.ts';
import type { Meter } from '../ports.ts';
import {
  type Collect,
  type Counters,
  cacheLabel,
  counterIn,
  createCounters,
  type Labels,
  methodLabel,
  NONE,
  OTHER,
  PREFIX,
  statusLabel,
} from './counters.ts';
import { createGauges, type MetricSources } from './gauges.ts';

interface MetricsOptions {
  readonly version: string;
  readonly sources: MetricSources;
  /** Called when the values of a metric cannot be read, and not again before they could. */
  readonly onUnreadable: (metric: string, error: unknown) => void;
}

export interface Metrics extends Meter {
  requestStarted(): void;
  requestFinished(request: FinishedRequest): void;
  /** A TLS handshake of a caller with a port has ended; the outcome is one of a few. */
  tlsHandshake(port: string, outcome: string): void;
  configLoaded(outcome: 'ok' | 'refused', epochSeconds: number): void;
  /** Forgets the series of tenants that are no longer configured; their last requests count as `none`. */
  keepTenants(tenants: ReadonlySet<string>): void;
  /** Forgets the expiry of a credential's token that is no longer configured, or an alert would wait for it for ever. */
  credentialGone(account: string, credential: string): void;
  /** Counts of each tenant so far, by tenant label. */
  usage(): ReadonlyMap<string, Usage>;
  readonly contentType: string;
  /** The exposition text. */
  render(): Promise<string>;
}

/** prom-client names these gauges like counters, which promtool objects to; each is the sum of another one. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** Metrics by prom-client, which only this folder knows. Each gateway has a registry of its own. */
export function createMetrics({ version, sources, onUnreadable }: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  const { collect, failures } = guardedCollect(onUnreadable);
  const counters = createCounters(registry, collect, sources.accounts);
  // The log counts what it loses; the value only ever grows.
  counterIn(registry, collect)('log_lines_dropped_total', 'Log lines lost.', [], (metric) => {
    metric.reset();
    metric.remove({});
    metric.inc(sources.logLinesDropped());
  });
  const gauges = createGauges(registry, collect, version, sources);
  // Collected last, so that it counts the failures of the same scrape.
  registry.registerMetric(failures);
  const usage = createUsageCount();
  let tenants: ReadonlySet<string> | null = null;
  const tenantLabel = (id: string): string => (id !== '' && (tenants === null || tenants.has(id)) ? id : NONE);
  for (const outcome of ['ok', 'refused']) counters.reloads.inc({ outcome }, 0);

  return {
    ...meterOf(counters, usage, tenantLabel),
    credentialExpiry: (account, credential, epochSeconds) =>
      gauges.credentialExpiry.set({ account, credential }, epochSeconds),
    requestStarted: () => gauges.inFlight.inc(),
    requestFinished({ context: { method, record }, status, code, durationMs }) {
      gauges.inFlight.dec();
      const [tenant, route, cache] = [tenantLabel(record.tenant), record.route || NONE, cacheLabel(record.cache)];
      counters.requests.inc({ tenant, route, method: methodLabel(method), status: statusLabel(status), cache });
      counters.requestSeconds.observe({ tenant, route, cache }, durationMs / 1000);
      if (code !== null) counters.rejections.inc({ tenant, code });
      // A caller that disconnects was not rejected.
      usage.finished(tenant, cache, code !== null && code !== 'client_closed');
    },
    tlsHandshake: (port, outcome) => counters.handshakes.inc({ port, outcome }),
    configLoaded(outcome, epochSeconds) {
      counters.reloads.inc({ outcome });
      gauges.lastReload.set(outcome === 'ok' ? 1 : 0);
      if (outcome === 'ok') gauges.lastLoad.set(epochSeconds);
    },
    keepTenants(configured) {
      tenants = configured;
      const gone = (tenant: string) => tenant !== NONE && tenant !== OTHER && !configured.has(tenant);
      for (const counter of Object.values(counters)) {
        counter.forget(({ tenant }: Labels) => tenant !== undefined && gone(tenant));
      }
      usage.forget(gone);
    },
    credentialGone: (account, credential) => gauges.credentialExpiry.remove({ account, credential }),
    usage: usage.read,
    contentType: registry.contentType,
    render: () => registry.metrics(),
  };
}

function meterOf(
  counters: Counters,
  usage: ReturnType<typeof createUsageCount>,
  tenantLabel: (id: string) => string,
): Omit<Meter, 'credentialExpiry'> {
  return {
    upstreamAttempt(account, upstream, method, status, seconds) {
      counters.attempts.inc({ account, upstream, method: methodLabel(method), status: statusLabel(status) });
      counters.attemptSeconds.observe({ upstream }, seconds);
    },
    upstreamRetry: () => counters.retries.inc({}),
    requestAvoided(id, by) {
      const tenant = tenantLabel(id);
      counters.avoided.inc({ tenant, by });
      usage.avoided(tenant);
    },
    quotaDecision: (account, id, decision) => counters.decisions.inc({ account, tenant: tenantLabel(id), decision }),
    wouldReject(id, code) {
      const tenant = tenantLabel(id);
      counters.wouldReject.inc({ tenant, code });
      usage.wouldReject(tenant);
    },
    quotaWait: (id, seconds) => counters.waitSeconds.observe({ tenant: tenantLabel(id) }, seconds),
    upstreamThrottled: (account) => counters.throttled.inc({ account }),
    invalidUpstreamHeader: (account, field) => counters.invalidHeaders.inc({ account, field }),
    credentialRefresh: (account, credential, outcome) => counters.refreshes.inc({ account, credential, outcome }),
    tokenRejected: (issuer, reason) => counters.tokenRejections.inc({ issuer: issuer || NONE, reason }),
    guardFallback: (guard) => counters.guardFallbacks.inc({ guard }),
    idempotency: (outcome) => counters.idempotency.inc({ outcome }),
    spans: (outcome, count) => counters.spans.inc({ outcome }, count),
    cacheOperation: (tier, outcome) => counters.cacheOperations.inc({ tier, outcome }),
  };
}

/** Without it one source that fails would cost the whole scrape. */
function guardedCollect(onUnreadable: MetricsOptions['onUnreadable']): { collect: Collect; failures: Counter } {
  const unreadable = new Set<string>();
  const failures = new Counter({
    name: `${PREFIX}metrics_unreadable_total`,
    help: 'Times a metric had no values because they could not be read; the log names it.',
    registers: [],
  });
  return {
    failures,
    collect(metric, read) {
      try {
        read();
        unreadable.delete(metric);
      } catch (error) {
        failures.inc();
        if (!unreadable.has(metric)) onUnreadable(metric, error);
        unreadable.add(metric);
      }
    },
  };
}

/** Counts of a tenant since the process began. */
export interface Usage {
  requests: number;
  refused: number;
  /** Would have been rejected if the tenant's limits were enforced. */
  wouldReject: number;
  saved: number;
  /** Requests that the cache may serve, and those it did. */
  reads: number;
  hits: number;
}

export const NO_USAGE: Readonly<Usage> = { requests: 0, refused: 0, wouldReject: 0, saved: 0, reads: 0, hits: 0 };

export function addUsage(a: Usage, b: Usage, sign: 1 | -1 = 1): Usage {
  const sum: Usage = { ...a };
  for (const count of Object.keys(sum) as (keyof Usage)[]) sum[count] += sign * b[count];
  return sum;
}

/** Cache statuses of a request that was served without an upstream request of its own. */
const HITS: ReadonlySet<string> = new Set(['hit', 'stale', 'collapsed']);

/** Counts what each tenant uses, for the admin page. */
function createUsageCount() {
  const usages = new Map<string, Usage>();
  const of = (tenant: string): Usage => {
    const found = usages.get(tenant) ?? { ...NO_USAGE };
    usages.set(tenant, found);
    return found;
  };
  return {
    finished(tenant: string, cache: string, rejected: boolean): void {
      const usage = of(tenant);
      usage.requests += 1;
      if (rejected) usage.refused += 1;
      if (HITS.has(cache)) usage.hits += 1;
      if (HITS.has(cache) || cache === 'miss') usage.reads += 1;
    },
    avoided(tenant: string): void {
      of(tenant).saved += 1;
    },
    wouldReject(tenant: string): void {
      of(tenant).wouldReject += 1;
    },
    /** Forgets tenants that are no longer configured. */
    forget(gone: (tenant: string) => boolean): void {
      for (const tenant of usages.keys()) if (gone(tenant)) usages.delete(tenant);
    },
    read: (): ReadonlyMap<string, Usage> => new Map([...usages].map(([tenant, usage]) => [tenant, { ...usage }])),
  };
}
