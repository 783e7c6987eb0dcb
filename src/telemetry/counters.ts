import { Counter, Histogram, type Registry } from 'prom-client';

export const PREFIX = 'patchgate_';

/** From the time of a cached response to the longest timeout of an upstream. */
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const UPSTREAM_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** The bucket of zero counts the requests that did not wait; `Prefer: wait` allows 30 s at most. */
const WAIT_SECONDS = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30];

/** The weight of a scrape: a series of a counter is one line, a series of a histogram some fifteen. */
const MAX_COUNTER_SERIES = 10_000;
const MAX_HISTOGRAM_SERIES = 1_000;

/** The label of a value that is absent: no tenant before authentication, no route for an unknown path. */
export const NONE = 'none';
/** The label of a value outside of the set that a label may have. */
export const OTHER = 'other';

/** Methods of a caller's invention share a label, or callers could make series as they like. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const CACHE_STATUSES = new Set(['hit', 'stale', 'miss', 'collapsed', 'bypass', NONE]);

export function methodLabel(method: string): string {
  return METHODS.has(method) ? method : OTHER;
}

/** An HTTP status, or the reason why there was none. An upstream may send any three digits. */
export function statusLabel(status: number | string): string {
  if (typeof status === 'string') return status;
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : OTHER;
}

export function cacheLabel(cache: string): string {
  return CACHE_STATUSES.has(cache) ? cache : NONE;
}

export type Counters = ReturnType<typeof createCounters>;

/** Reads values at a scrape. A failure of `read` must cost no other metric. */
export type Collect = (metric: string, read: () => void) => void;

/**
 * The counters and histograms of the contract (design, section 5). Every label value must come from a bounded set.
 *
 * @param accounts those configured now
 */
export function createCounters(
  registry: Registry,
  collect: Collect,
  accounts: () => readonly { readonly id: string }[],
) {
  const counter = counterIn(registry, collect);
  const histogram = histogramIn(registry);
  return {
    requests: counter(
      'http_requests_total',
      'Requests that ended, by the status that was sent; 499: the client disconnected before there was one.',
      ['tenant', 'route', 'method', 'status', 'cache'],
    ),
    requestSeconds: histogram(
      'http_request_duration_seconds',
      'Time from the arrival of a request to the end of its response, waiting for a slot included.',
      ['tenant', 'route', 'cache'],
      REQUEST_SECONDS,
    ),
    rejections: counter('rejections_total', 'Requests that the gateway itself rejected, by problem code.', [
      'tenant',
      'code',
    ]),
    wouldReject: counter(
      'would_reject_total',
      'Requests that a limit would have rejected if it were enforced, by problem code: tenants with enforcement observe.',
      ['tenant', 'code'],
    ),
    attempts: counter(
      'upstream_requests_total',
      'Requests sent upstream, each attempt by itself; status is the reason where there was no response.',
      ['account', 'upstream', 'method', 'status'],
    ),
    attemptSeconds: histogram(
      'upstream_request_duration_seconds',
      'Time from sending a request upstream to the headers of its response, or to giving up.',
      ['upstream'],
      UPSTREAM_SECONDS,
    ),
    retries: counter('upstream_retries_total', 'Requests sent again, after a 401 or a failure that is safe to repeat.'),
    avoided: counter('upstream_requests_avoided_total', 'Responses that needed no upstream request of their own.', [
      'tenant',
      'by',
    ]),
    tokenRejections: counter('token_rejections_total', 'Tokens of callers that were rejected, by issuer and reason.', [
      'issuer',
      'reason',
    ]),
    guardFallbacks: counter('guard_fallbacks_total', 'Times a guard counted in this process alone, without Redis.', [
      'guard',
    ]),
    decisions: counter('quota_decisions_total', 'Decisions of the quota: admitted, or the reason of a rejection.', [
      'account',
      'tenant',
      'decision',
    ]),
    waitSeconds: histogram('quota_wait_seconds', 'Time requests spent waiting for a slot.', ['tenant'], WAIT_SECONDS),
    throttled: counter(
      'upstream_throttled_total',
      'Responses 429 of the upstream; above zero means external usage or a fault.',
      ['account'],
      // An increase needs a value to start from, or the alert would miss the first 429.
      (metric) => {
        for (const { id } of accounts()) metric.inc({ account: id }, 0);
      },
    ),
    invalidHeaders: counter(
      'upstream_invalid_headers_total',
      'Upstream headers about its limit or about freshness that could not be read, or contradict themselves.',
      ['account', 'field'],
    ),
    refreshes: counter('credential_refreshes_total', 'Logins for a new token, by outcome.', [
      'account',
      'credential',
      'outcome',
    ]),
    idempotency: counter('idempotency_total', 'Writes with an Idempotency-Key, by outcome.', ['outcome']),
    cacheOperations: counter('cache_operations_total', 'Lookups and stores of the cache.', ['tier', 'outcome']),
    handshakes: counter('tls_handshakes_total', 'TLS handshakes of callers, by port and outcome.', ['port', 'outcome']),
    spans: counter('trace_spans_total', 'Spans: exported, failed without a collector, or dropped as too many.', [
      'outcome',
    ]),
    reloads: counter('config_reloads_total', 'Loads of the configuration, the first one included, by outcome.', [
      'outcome',
    ]),
  };
}

/** Makes counters; `read` sets one at a scrape. */
export function counterIn(registry: Registry, collect: Collect) {
  return <Name extends string = never>(
    name: string,
    help: string,
    labelNames: readonly Name[] = [],
    read: (metric: Counter<Name>) => void = () => {},
  ) => {
    const metric: Counter<Name> = new Counter({
      name: PREFIX + name,
      help,
      labelNames,
      registers: [registry],
      collect: () => collect(PREFIX + name, () => read(metric)),
    });
    const { admit, forget } = boundedSeries(metric, labelNames, MAX_COUNTER_SERIES);
    return { forget, inc: (labels: Labels<Name>, by = 1): void => metric.inc(admit(labels), by) };
  };
}

function histogramIn(registry: Registry) {
  return <Name extends string>(name: string, help: string, labelNames: readonly Name[], buckets: readonly number[]) => {
    const metric = new Histogram({
      name: PREFIX + name,
      help,
      labelNames,
      buckets: [...buckets],
      registers: [registry],
    });
    const { admit, forget } = boundedSeries(metric, labelNames, MAX_HISTOGRAM_SERIES);
    return {
      forget,
      observe(labels: Labels<Name>, seconds: number): void {
        // A clock's fault must not make the sum wrong for ever.
        if (seconds >= 0 && seconds < Number.POSITIVE_INFINITY) metric.observe(admit(labels), seconds);
      },
    };
  };
}

export type Labels<Name extends string = string> = Readonly<Record<Name, string>>;

/** Bounds the number of series of one metric, whatever its labels are. */
function boundedSeries<Name extends string>(
  metric: { remove(labels: Labels<Name>): void },
  names: readonly Name[],
  limit: number,
) {
  const known = new Map<string, Labels<Name>>();
  const admitted = (labels: Labels<Name>, below: number): Labels<Name> | undefined => {
    let key = '';
    for (const name of names) key += `${labels[name]}\n`;
    const found = known.get(key);
    if (found !== undefined || known.size >= below) return found;
    known.set(key, labels);
    return labels;
  };
  const all = Object.fromEntries(names.map((name) => [name, OTHER])) as Labels<Name>;
  return {
    /** The labels to count under: as given; from the limit on with tenant `other`; from twice the limit on all `other`. */
    admit(labels: Labels<Name>): Labels<Name> {
      const first = admitted(labels, limit);
      if (first !== undefined) return first;
      const anyTenant = 'tenant' in labels ? { ...labels, tenant: OTHER } : labels;
      return admitted(anyTenant, limit * 2) ?? all;
    },
    forget(gone: (labels: Labels) => boolean): void {
      for (const [key, labels] of known) {
        if (!gone(labels)) continue;
        known.delete(key);
        metric.remove(labels);
      }
    },
  };
}
