import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Meter } from '../ports.ts';
import { type Catalogue, catalogue, PREFIX } from './catalogue.ts';
import { exposition } from './exposition.ts';
import type { Labels } from './families.ts';
import { type Handles, handles } from './handles.ts';
import { NONE, OTHER } from './labels.ts';
import { type MetricSources, registerPulled } from './pulled.ts';
import { type Usage, usageOf } from './usage.ts';

export interface MetricsOptions {
  readonly version: string;
  readonly sources: MetricSources;
  /** Told once when a family can not be read and is left out; see {@link exposition}. */
  readonly onUnreadable: (family: string, error: unknown) => void;
}

export interface FinishedRequest {
  /** '' where none was found; labelled `none`, as is an empty route. */
  readonly tenant: string;
  /** The template, never a path. */
  readonly route: string;
  readonly method: string;
  readonly status: number;
  readonly cache: string;
  /** Of the refusal; null for an answer. */
  readonly code: string | null;
  readonly seconds: number;
}

export interface Metrics extends Meter {
  requestStarted(): void;
  requestFinished(request: FinishedRequest): void;
  /** A caller has begun to speak TLS to a port, or failed to; the outcome is one of a few. */
  tlsHandshake(port: string, outcome: string): void;
  configLoaded(outcome: 'ok' | 'refused', epochSeconds: number): void;
  /** Forgets the series of tenants that are no longer configured; what still comes of them counts as `none`. */
  keepTenants(tenants: ReadonlySet<string>): void;
  /** Forgets when the token of a credential expires that is no longer configured, or an alert would wait for it for ever. */
  credentialGone(account: string, credential: string): void;
  /** What was counted of each tenant so far; what counts as no tenant's stands under the labels' words for that. */
  usage(): ReadonlyMap<string, Usage>;
  readonly contentType: string;
  /** The exposition text. */
  render(): Promise<string>;
}

/** Gauges that are named like counters, which promtool holds against them; each is the sum of the one beside it. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** Metrics behind prom-client, which no other module knows. Each gateway has a registry of its own. */
export function createMetrics({ version, sources, onUnreadable }: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  const families = catalogue(registry, () => sources.accounts().map(({ id }) => id));
  registerPulled(registry, sources);
  const { inFlight, expiries, lastLoad, lastReload } = gauges(registry, version);
  for (const outcome of ['ok', 'refused']) families.reloads.of({ outcome });
  let series = handles(families, null);

  return {
    ...meterOf(families, () => series),
    credentialExpiry: (account, credential, epochSeconds) => expiries.set({ account, credential }, epochSeconds),
    requestStarted: inFlight.up,
    requestFinished({ tenant, route, method, status, cache, code, seconds }) {
      inFlight.down();
      const ended = series.requests(tenant)(route)(cache);
      ended.counts(method)(status).value += 1;
      ended.duration.observe(seconds);
      if (code !== null) series.refusals(tenant)(code).value += 1;
    },
    tlsHandshake(port, outcome) {
      families.handshakes.of({ port, outcome }).value += 1;
    },
    configLoaded(outcome, epochSeconds) {
      families.reloads.of({ outcome }).value += 1;
      lastReload.set(outcome === 'ok' ? 1 : 0);
      if (outcome === 'ok') lastLoad.set(epochSeconds);
    },
    keepTenants(tenants) {
      const gone = ({ tenant }: Labels) =>
        tenant !== undefined && tenant !== NONE && tenant !== OTHER && !tenants.has(tenant);
      for (const family of Object.values(families)) family.forget(gone);
      // The handles of what was forgotten must go with it, or they would count into the void.
      series = handles(families, tenants);
    },
    credentialGone: (account, credential) => expiries.remove({ account, credential }),
    usage: () => usageOf(families),
    contentType: registry.contentType,
    ...exposition({ registry, onUnreadable }),
  };
}

function meterOf(families: Catalogue, series: () => Handles): Omit<Meter, 'credentialExpiry'> {
  return {
    upstreamAttempt(account, upstream, method, status, seconds) {
      series().attempts(account)(upstream)(method)(status).value += 1;
      series().attemptSeconds(upstream).observe(seconds);
    },
    upstreamRetry() {
      families.retries.of({}).value += 1;
    },
    requestAvoided(tenant, by) {
      series().saved(tenant)(by).value += 1;
    },
    quotaDecision(account, tenant, decision) {
      series().decisions(account)(tenant)(decision).value += 1;
    },
    quotaWait(tenant, seconds) {
      series().waitSeconds(tenant).observe(seconds);
    },
    upstreamThrottled(account) {
      families.throttled.of({ account }).value += 1;
    },
    invalidUpstreamHeader(account, field) {
      families.malformed.of({ account, field }).value += 1;
    },
    credentialRefresh(account, credential, outcome) {
      families.refreshes.of({ account, credential, outcome }).value += 1;
    },
    guardFallback(guard) {
      families.guardFallbacks.of({ guard }).value += 1;
    },
    idempotency(outcome) {
      families.idempotency.of({ outcome }).value += 1;
    },
    spans(outcome, count) {
      families.spans.of({ outcome }).value += count;
    },
    cacheOperation(tier, outcome) {
      series().cacheOperations(tier)(outcome).value += 1;
    },
  };
}

function gauges(registry: Registry, version: string) {
  const gauge = (name: string, help: string, labelNames: string[], collect?: () => number) =>
    new Gauge({
      name: PREFIX + name,
      help,
      labelNames,
      registers: [registry],
      ...(collect && {
        collect() {
          this.set(collect());
        },
      }),
    });
  let inFlight = 0;
  gauge('http_requests_in_flight', 'Requests whose answer has not ended yet.', [], () => inFlight);
  const build = gauge('build_info', 'What is running; always 1.', ['version', 'node']);
  build.set({ version, node: process.version }, 1);
  return {
    inFlight: {
      up: (): void => {
        inFlight += 1;
      },
      down: (): void => {
        inFlight -= 1;
      },
    },
    expiries: gauge('credential_expiry_timestamp_seconds', 'When the login token in use expires.', [
      'account',
      'credential',
    ]),
    lastLoad: gauge('config_last_success_timestamp_seconds', 'When the configuration in use was loaded.', []),
    lastReload: gauge(
      'config_last_reload_successful',
      'Whether the last load of the configuration took effect; 0: it was refused, and the one before is in use.',
      [],
    ),
  };
}
