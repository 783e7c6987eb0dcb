import type { Registry } from 'prom-client';
import { type Labels, TallyCounter, TallyHistogram } from './families.ts';

export const PREFIX = 'patchgate_';

/** From what a cached answer takes to the longest timeout of an upstream. */
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const UPSTREAM_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** The bucket of zero counts those who did not wait; `Prefer: wait` allows 30 s at most. */
const WAIT_SECONDS = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30];

/** A counter's series is a line of the exposition, a histogram's some fifteen: this is what a scrape may weigh. */
const MOST_COUNTER_SERIES = 10_000;
const MOST_HISTOGRAM_SERIES = 1_000;

export type Catalogue = ReturnType<typeof catalogue>;

/**
 * The families that count, with the names, labels and units of the contract (design, section 5).
 *
 * @param accounts those configured now
 */
export function catalogue(registry: Registry, accounts: () => readonly string[]) {
  const counter = (
    name: string,
    help: string,
    labels: readonly string[] = [],
    fromZero: () => readonly Labels[] = () => [],
  ) => new TallyCounter({ name: PREFIX + name, help, labels, registry, limit: MOST_COUNTER_SERIES, fromZero });
  const histogram = (name: string, help: string, labels: readonly string[], buckets: readonly number[]) =>
    new TallyHistogram({ name: PREFIX + name, help, labels, registry, buckets, limit: MOST_HISTOGRAM_SERIES });
  return {
    requests: counter(
      'http_requests_total',
      'Requests that ended, by the answer sent; status 499: the caller left before there was one.',
      ['tenant', 'route', 'method', 'status', 'cache'],
    ),
    requestSeconds: histogram(
      'http_request_duration_seconds',
      'From the arrival of a request to the end of its answer, waiting for a slot included.',
      ['tenant', 'route', 'cache'],
      REQUEST_SECONDS,
    ),
    refusals: counter('rejections_total', 'Requests that the gateway itself refused, by the code of the problem.', [
      'tenant',
      'code',
    ]),
    attempts: counter(
      'upstream_requests_total',
      'Requests sent upstream, each attempt by itself; status is the reason where there was no answer.',
      ['account', 'upstream', 'method', 'status'],
    ),
    attemptSeconds: histogram(
      'upstream_request_duration_seconds',
      'From sending a request upstream to the headers of its answer, or to giving up.',
      ['upstream'],
      UPSTREAM_SECONDS,
    ),
    retries: counter('upstream_retries_total', 'Requests sent again, after a 401 or a failure that is safe to repeat.'),
    saved: counter('upstream_requests_avoided_total', 'Answers that needed no request of their own upstream.', [
      'tenant',
      'by',
    ]),
    guardFallbacks: counter(
      'guard_fallbacks_total',
      'Times a guard counted in this process alone, for want of Redis.',
      ['guard'],
    ),
    decisions: counter('quota_decisions_total', 'Decisions of the quota: admitted, or by what a request was refused.', [
      'account',
      'tenant',
      'decision',
    ]),
    waitSeconds: histogram('quota_wait_seconds', 'Time requests spent waiting for a slot.', ['tenant'], WAIT_SECONDS),
    throttled: counter(
      'upstream_throttled_total',
      'Answers 429 from upstream; above zero means foreign use or a fault.',
      ['account'],
      // Or an alert on the first 429 would not see it: an increase needs something to start from.
      () => accounts().map((account) => ({ account })),
    ),
    malformed: counter(
      'upstream_invalid_headers_total',
      'Fields of upstream about its limit or about freshness that could not be read, or contradict themselves.',
      ['account', 'field'],
    ),
    refreshes: counter('credential_refreshes_total', 'Logins for a new token, by outcome.', [
      'account',
      'credential',
      'outcome',
    ]),
    idempotency: counter('idempotency_total', 'Writes with an Idempotency-Key, by what came of them.', ['outcome']),
    cacheOperations: counter('cache_operations_total', 'Look-ups and stores of the cache.', ['tier', 'outcome']),
    handshakes: counter('tls_handshakes_total', 'TLS handshakes of callers, by port and how they ended.', [
      'port',
      'outcome',
    ]),
    spans: counter(
      'trace_spans_total',
      'Spans by what became of them: exported, failed for want of a collector, dropped as there were too many.',
      ['outcome'],
    ),
    reloads: counter('config_reloads_total', 'Loads of the configuration, the first one included, by outcome.', [
      'outcome',
    ]),
  };
}
