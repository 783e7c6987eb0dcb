import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Meter } from '../observe.ts';

/** Values that are read when Prometheus asks, instead of being kept up to date. */
export interface MetricSources {
  readonly accounts: () => readonly {
    readonly id: string;
    readonly limit: number;
    readonly ceiling: number;
    readonly slotsInUse: number;
    readonly slotsForeign: number;
    readonly waiting: number;
  }[];
  readonly cache: () => { readonly entries: number; readonly bytes: number } | null;
  /** In seconds of the epoch; keys that never expire are left out. */
  readonly keyExpiries: () => readonly {
    readonly tenant: string;
    readonly key: string;
    readonly epochSeconds: number;
  }[];
}

export interface FinishedRequest {
  readonly tenant: string;
  readonly route: string;
  readonly method: string;
  readonly status: number;
  readonly cache: string;
  readonly code: string | null;
  readonly seconds: number;
}

export interface Metrics extends Meter {
  requestStarted(): void;
  requestFinished(request: FinishedRequest): void;
  configLoaded(outcome: 'ok' | 'refused', epochSeconds: number): void;
  /** Forgets the series of tenants that are no longer configured. */
  keepTenants(tenants: ReadonlySet<string>): Promise<void>;
  readonly contentType: string;
  /** The exposition text. */
  render(): Promise<string>;
}

const PREFIX = 'patchgate_';
/** A method of the caller's invention is not a label. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const UPSTREAM_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const WAIT_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30];

/** The one module that knows prom-client. Each gateway has a registry of its own. */
export function createMetrics(options: { readonly version: string; readonly sources: MetricSources }): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const make = families(registry);
  const requests = make.counter('http_requests_total', 'Requests answered.', [
    'tenant',
    'route',
    'method',
    'status',
    'cache',
  ]);
  const durations = make.histogram(
    'http_request_duration_seconds',
    'From the request to the end of its answer.',
    ['tenant', 'route', 'cache'],
    REQUEST_SECONDS,
  );
  const inFlight = make.gauge('http_requests_in_flight', 'Requests being worked on.', []);
  const refusals = make.counter('refusals_total', 'Requests refused by the gateway itself.', ['tenant', 'code']);
  const attempts = make.counter('upstream_requests_total', 'Requests sent upstream, each attempt.', [
    'account',
    'upstream',
    'method',
    'status',
  ]);
  const attemptSeconds = make.histogram(
    'upstream_request_duration_seconds',
    'From sending to the headers of the answer.',
    ['upstream'],
    UPSTREAM_SECONDS,
  );
  const retries = make.counter('upstream_retries_total', 'Requests sent again.', []);
  const saved = make.counter('upstream_calls_saved_total', 'Answers that needed no request upstream.', [
    'tenant',
    'by',
  ]);
  const decisions = make.counter('quota_decisions_total', 'Decisions of the quota.', ['account', 'tenant', 'decision']);
  const waits = make.histogram('quota_wait_seconds', 'Time spent waiting for a slot.', ['tenant'], WAIT_SECONDS);
  const throttled = make.counter('upstream_throttled_total', 'Answers 429 from upstream.', ['account']);
  const malformed = make.counter(
    'upstream_fields_malformed_total',
    'Limit fields of upstream that could not be read.',
    ['account', 'field'],
  );
  const refreshes = make.counter('credential_refreshes_total', 'Logins.', ['account', 'credential', 'outcome']);
  const expiries = make.gauge('credential_expiry_timestamp_seconds', 'When the login token expires.', [
    'account',
    'credential',
  ]);
  const cacheOperations = make.counter('cache_operations_total', 'Look-ups and stores of the cache.', [
    'tier',
    'outcome',
  ]);
  const reloads = make.counter('config_reloads_total', 'Loads of the configuration.', ['outcome']);
  const lastLoad = make.gauge('config_last_success_timestamp_seconds', 'When the configuration in use was loaded.', []);
  make
    .gauge('build_info', 'What is running: always 1.', ['version', 'node'])
    .set({ version: options.version, node: process.version }, 1);
  // Embedded state is always up and never a fallback; the Redis ledger will have its say here.
  make.gauge('state_up', 'Whether the shared state answers.', []).set(1);
  make.gauge('state_fallback', 'Whether this replica works on its share alone.', []).set(0);
  pulled(make, options.sources);
  const requestSeries = seriesOf(requests, durations);

  return {
    requestStarted: () => inFlight.inc(),
    requestFinished(request) {
      inFlight.dec();
      requestSeries(request);
      if (request.code !== null) refusals.inc({ tenant: request.tenant || 'none', code: request.code });
    },
    upstreamAttempt(account, upstream, method, status, seconds) {
      attempts.inc({ account, upstream, method: methodLabel(method), status: String(status) });
      attemptSeconds.observe({ upstream }, seconds);
    },
    upstreamRetry: () => retries.inc(),
    callSaved: (tenant, by) => saved.inc({ tenant, by }),
    quotaDecision: (account, tenant, decision) => decisions.inc({ account, tenant, decision }),
    quotaWait: (tenant, seconds) => waits.observe({ tenant }, seconds),
    upstreamThrottled: (account) => throttled.inc({ account }),
    upstreamFieldMalformed: (account, field) => malformed.inc({ account, field }),
    credentialRefresh: (account, credential, outcome) => refreshes.inc({ account, credential, outcome }),
    credentialExpiry: (account, credential, epochSeconds) => expiries.set({ account, credential }, epochSeconds),
    cacheOperation: (tier, outcome) => cacheOperations.inc({ tier, outcome }),
    configLoaded(outcome, epochSeconds) {
      reloads.inc({ outcome });
      if (outcome === 'ok') lastLoad.set(epochSeconds);
    },
    keepTenants: (tenants) =>
      dropTenants([requests, durations, refusals, saved, decisions, waits], tenants, requestSeries),
    contentType: registry.contentType,
    render: () => registry.metrics(),
  };
}

function families(registry: Registry) {
  const base = (name: string, help: string, labelNames: readonly string[]) => ({
    name: PREFIX + name,
    help,
    labelNames: [...labelNames],
    registers: [registry],
  });
  return {
    counter: (name: string, help: string, labels: readonly string[]) => new Counter(base(name, help, labels)),
    histogram: (name: string, help: string, labels: readonly string[], buckets: number[]) =>
      new Histogram({ ...base(name, help, labels), buckets }),
    gauge: (name: string, help: string, labels: readonly string[], collect?: (gauge: Gauge) => void) =>
      new Gauge({
        ...base(name, help, labels),
        ...(collect && {
          collect(this: Gauge) {
            collect(this);
          },
        }),
      }),
  };
}

function pulled(make: ReturnType<typeof families>, sources: MetricSources): void {
  const perAccount = (
    name: string,
    help: string,
    value: (account: ReturnType<MetricSources['accounts']>[number]) => number,
  ): void => {
    make.gauge(name, help, ['account'], (gauge) => {
      for (const account of sources.accounts()) gauge.set({ account: account.id }, value(account));
    });
  };
  perAccount('quota_limit', 'What Patchworks allows in a minute.', (account) => account.limit);
  perAccount('quota_ceiling', 'What the gateway sends at most in any minute.', (account) => account.ceiling);
  perAccount('quota_slots_in_use', 'Slots of the window that are held.', (account) => account.slotsInUse);
  perAccount('quota_slots_foreign', 'Slots taken by others on the account.', (account) => account.slotsForeign);
  perAccount('quota_waiting', 'Requests waiting for a slot.', (account) => account.waiting);
  make.gauge('cache_entries', 'Entries in memory.', [], (gauge) => gauge.set(sources.cache()?.entries ?? 0));
  make.gauge('cache_bytes', 'Bytes in memory.', [], (gauge) => gauge.set(sources.cache()?.bytes ?? 0));
  make.gauge('tenant_key_expiry_timestamp_seconds', 'When a key expires.', ['tenant', 'key'], (gauge) => {
    gauge.reset();
    for (const { tenant, key, epochSeconds } of sources.keyExpiries()) gauge.set({ tenant, key }, epochSeconds);
  });
}

interface RequestSeries {
  (request: FinishedRequest): void;
  clear(): void;
}

/** Looks label sets up by one string: prom-client's own look-up hashes and sorts them for every request. */
function seriesOf(requests: Counter, durations: Histogram): RequestSeries {
  // Bounded by the label sets that exist: routes × tenants of the configuration × methods × statuses.
  const known = new Map<string, { count: ReturnType<Counter['labels']>; duration: ReturnType<Histogram['labels']> }>();
  const record = (request: FinishedRequest): void => {
    const method = methodLabel(request.method);
    const key = `${request.tenant}\n${request.route}\n${method}\n${request.status}\n${request.cache}`;
    let series = known.get(key);
    if (series === undefined) {
      const labels = { tenant: request.tenant || 'none', route: request.route || 'none', cache: request.cache };
      series = {
        count: requests.labels({ ...labels, method, status: String(request.status) }),
        duration: durations.labels(labels),
      };
      known.set(key, series);
    }
    series.count.inc();
    series.duration.observe(request.seconds);
  };
  return Object.assign(record, { clear: () => known.clear() });
}

function methodLabel(method: string): string {
  return METHODS.has(method) ? method : 'other';
}

type ByTenant = Counter | Histogram;

async function dropTenants(
  metrics: readonly ByTenant[],
  kept: ReadonlySet<string>,
  series: RequestSeries,
): Promise<void> {
  series.clear();
  for (const metric of metrics) {
    const { values } = await metric.get();
    const gone = new Map<string, Record<string, string | number>>();
    for (const { labels } of values) {
      const { le: _, ...own } = labels as Record<string, string | number>;
      const tenant = String(own['tenant'] ?? 'none');
      if (tenant !== 'none' && !kept.has(tenant)) gone.set(JSON.stringify(own), own);
    }
    for (const labels of gone.values()) metric.remove(labels);
  }
}
