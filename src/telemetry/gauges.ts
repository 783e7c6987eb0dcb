import { Gauge, type Registry } from 'prom-client';
import type { BudgetView } from '../quota/budgets.ts';
import type { AccountView } from '../quota/quota-store.ts';
import type { UpstreamHealth } from '../upstream/upstreams.ts';
import { type Collect, PREFIX } from './counters.ts';

/** Values that are read when Prometheus asks, instead of being kept up to date. */
export interface MetricSources {
  /** `waiting`: requests that wait for a slot. */
  readonly accounts: () => readonly (AccountView & { readonly id: string; readonly waiting: number })[];
  readonly tenantBudgets: () => readonly { readonly tenant: string; readonly budgets: readonly BudgetView[] }[];
  readonly cache: () => { readonly entries: number; readonly bytes: number };
  /** Memory for bodies. */
  readonly bodyMemory: () => { readonly bytes: number; readonly totalBytes: number; readonly waiting: number };
  readonly upstreams: () => Readonly<Record<string, Pick<UpstreamHealth, 'breaker' | 'inFlight' | 'waiting'>>>;
  /** Keys that never expire are left out. */
  readonly keyExpiries: () => readonly KeyDate[];
  /** Keys without a known use are left out. */
  readonly keyUses: () => readonly KeyDate[];
  /** `failing`: from a rejection or a login that failed until it works again. */
  readonly credentials: () => readonly { readonly account: string; readonly id: string; readonly failing: boolean }[];
  /** `problem`: why its keys could not be read at the last attempt. */
  readonly issuers: () => readonly {
    readonly issuer: string;
    readonly keys: number;
    readonly problem: string | null;
  }[];
  /** Revision of the configuration in use. */
  readonly revision: () => string;
  readonly state: () => { readonly up: boolean; readonly fallback: boolean };
  /** A port without TLS has none. */
  readonly certificates: () => readonly { readonly port: string; readonly epochSeconds: number }[];
  /** Log lines lost so far. */
  readonly logLinesDropped: () => number;
}

interface KeyDate {
  readonly tenant: string;
  readonly key: string;
  readonly epochSeconds: number;
}

/** Ordered by how much is rejected, so that the greatest of several replicas has a meaning. */
const BREAKER = { closed: 0, 'half-open': 1, open: 2 } as const;

/** The gauges of the contract (design, section 5). Those that are set by an event are returned. */
export function createGauges(registry: Registry, collect: Collect, version: string, sources: MetricSources) {
  const kept = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name: PREFIX + name, help, labelNames, registers: [registry] });
  const gauge = readGaugeIn(registry, collect);
  registerSources(gauge, sources);
  registerIssuers(gauge, sources.issuers);
  registerKeys(gauge, sources);
  registerBudgets(gauge, sources);
  kept('build_info', 'What is running; always 1.', ['version', 'node']).set({ version, node: process.version }, 1);
  return {
    inFlight: kept('http_requests_in_flight', 'Requests whose response has not ended yet.'),
    credentialExpiry: kept('credential_expiry_timestamp_seconds', 'When the login token in use expires.', [
      'account',
      'credential',
    ]),
    lastLoad: kept('config_last_success_timestamp_seconds', 'When the configuration in use was loaded.'),
    lastReload: kept(
      'config_last_reload_successful',
      'Whether the last load of the configuration took effect; 0: it was refused, and the one before is in use.',
    ),
  };
}

type Values = Iterable<readonly [labels: Record<string, string>, value: number]>;
type ReadGauge = (name: string, help: string, labelNames: string[], read: () => Values) => void;

/** Makes gauges whose series are exactly those of their source at the scrape: a series that it no longer names is gone. */
function readGaugeIn(registry: Registry, collect: Collect): ReadGauge {
  return (name, help, labelNames, read) => {
    const gauge: Gauge = new Gauge({
      ...{ name: PREFIX + name, help, labelNames, registers: [registry] },
      collect() {
        gauge.reset();
        // Without labels, reset leaves a 0, which would be wrong if the source cannot be read.
        gauge.remove({});
        collect(PREFIX + name, () => {
          for (const [labels, value] of read()) gauge.set(labels, value);
        });
      },
    });
  };
}

/** Gauges with a series for each row; null: it has none. */
function gaugesOf<Row>(
  gauge: ReadGauge,
  labelNames: string[],
  rows: () => readonly (readonly [labels: Record<string, string>, row: Row])[],
) {
  return (name: string, help: string, of: (row: Row) => number | null): void =>
    gauge(name, help, labelNames, () =>
      rows().flatMap(([labels, row]) => {
        const value = of(row);
        return value === null ? [] : [[labels, value] as const];
      }),
    );
}

function registerSources(gauge: ReadGauge, sources: MetricSources): void {
  const perAccount = gaugesOf(gauge, ['account'], () => sources.accounts().map((each) => [{ account: each.id }, each]));
  const perUpstream = gaugesOf(gauge, ['upstream'], () =>
    Object.entries(sources.upstreams()).map(([upstream, each]) => [{ upstream }, each]),
  );
  const single = (name: string, help: string, read: () => number): void => gauge(name, help, [], () => [[{}, read()]]);

  perAccount(
    'quota_limit',
    'Requests a minute that Patchworks allows the account, as configured.',
    ({ limit }) => limit,
  );
  perAccount(
    'quota_limit_advertised',
    'Requests a minute that Patchworks allows the account, as its responses say; absent until three in a row have.',
    ({ advertisedLimit }) => advertisedLimit,
  );
  perAccount(
    'quota_ceiling',
    'Most requests that the gateway sends in any minute; lower than configured while Patchworks advertises a lower limit.',
    ({ ceiling }) => ceiling,
  );
  perAccount('quota_slots_in_use', 'Slots of the window held by the gateway.', ({ slotsInUse }) => slotsInUse);
  perAccount(
    'quota_external_usage',
    'Slots taken by external usage of the account, as far as seen.',
    ({ externalUsage }) => externalUsage,
  );
  perAccount('quota_waiting', 'Requests waiting for a slot.', ({ waiting }) => waiting);
  perAccount(
    'quota_replicas',
    'Replicas that count the account together, this one included; 0 until it has joined the others.',
    ({ replicas }) => replicas,
  );
  perUpstream(
    'upstream_breaker_state',
    'Circuit breaker of this replica: 0 closed, 1 half-open (a few requests probe the upstream), 2 open (nothing is sent, at least for one tenant).',
    ({ breaker }) => BREAKER[breaker],
  );
  perUpstream(
    'upstream_in_flight',
    'Requests under way, to the end of their responses; maxInFlight at most.',
    ({ inFlight }) => inFlight,
  );
  perUpstream('upstream_waiting', 'Requests waiting until fewer are under way.', ({ waiting }) => waiting);
  single('cache_entries', 'Responses kept in memory.', () => sources.cache().entries);
  single('cache_bytes', 'Size of the responses kept in memory.', () => sources.cache().bytes);
  const { bodyMemory } = sources;
  single('buffered_body_bytes', 'Memory held for bodies of requests and responses.', () => bodyMemory().bytes);
  single('buffered_body_limit_bytes', 'limits.bufferedTotal.', () => bodyMemory().totalBytes);
  single('buffered_body_waiting', 'Uploads waiting for memory.', () => bodyMemory().waiting);
  single(
    'redis_up',
    'Whether the state that replicas share answers; 1 where it is embedded.',
    () => +sources.state().up,
  );
  single(
    'redis_fallback_active',
    'Whether this replica works on its own share of the ceiling.',
    () => +sources.state().fallback,
  );
  gauge(
    'tls_certificate_expiry_timestamp_seconds',
    'When the certificate of a port expires, or one of its chain, whichever is first.',
    ['port'],
    () => sources.certificates().map(({ port, epochSeconds }) => [{ port }, epochSeconds]),
  );
  gauge('credential_up', 'Whether a credential worked at its last use; 1 before.', ['account', 'credential'], () =>
    sources.credentials().map(({ account, id, failing }) => [{ account, credential: id }, failing ? 0 : 1]),
  );
  gauge('config_info', 'The configuration in use: 1, with its revision.', ['revision'], () => [
    [{ revision: sources.revision() }, 1],
  ]);
}

function registerIssuers(gauge: ReadGauge, read: MetricSources['issuers']): void {
  const perIssuer = gaugesOf(gauge, ['issuer'], () => read().map((each) => [{ issuer: each.issuer }, each]));
  perIssuer('issuer_keys', 'Public keys of an issuer of tokens in use; 0: its tokens are refused.', ({ keys }) => keys);
  perIssuer('issuer_up', 'Whether the keys of an issuer could be read at the last attempt.', ({ problem }) =>
    problem === null ? 1 : 0,
  );
}

function registerKeys(gauge: ReadGauge, sources: Pick<MetricSources, 'keyExpiries' | 'keyUses'>): void {
  gauge('tenant_key_expiry_timestamp_seconds', 'When a tenant key expires.', ['tenant', 'key'], () =>
    sources.keyExpiries().map(({ tenant, key, epochSeconds }) => [{ tenant, key }, epochSeconds]),
  );
  gauge(
    'tenant_key_last_used_timestamp_seconds',
    'When a tenant key was last used, to the minute; through any replica with Redis, else through this process.',
    ['tenant', 'key'],
    () => sources.keyUses().map(({ tenant, key, epochSeconds }) => [{ tenant, key }, epochSeconds]),
  );
}

function registerBudgets(gauge: ReadGauge, sources: Pick<MetricSources, 'accounts' | 'tenantBudgets'>): void {
  const perBudget = gaugesOf(gauge, ['account', 'budget'], () =>
    sources
      .accounts()
      .flatMap(({ id, budgets = [] }) => budgets.map((each) => [{ account: id, budget: each.id }, each] as const)),
  );
  const perPart = gaugesOf(gauge, ['tenant', 'budget'], () =>
    sources
      .tenantBudgets()
      .flatMap(({ tenant, budgets }) => budgets.map((each) => [{ tenant, budget: each.id }, each] as const)),
  );
  perBudget('budget_limit', 'Requests that a budget allows in its period.', ({ limit }) => limit);
  perBudget(
    'budget_used',
    'Requests of the present period that count, as far as this replica has seen.',
    ({ used }) => used,
  );
  perBudget('budget_warn_at', 'Requests from which an alert is due: warnAt of the limit.', ({ warnAt }) => warnAt);
  perBudget(
    'budget_start_timestamp_seconds',
    'When the present period of a budget began.',
    ({ startsAt }) => startsAt / 1000,
  );
  perBudget(
    'budget_reset_timestamp_seconds',
    'When the next period of a budget begins.',
    ({ resetsAt }) => resetsAt / 1000,
  );
  perPart('tenant_budget_limit', "Requests that a tenant's part of a budget allows.", ({ limit }) => limit);
  perPart(
    'tenant_budget_used',
    'Requests of a tenant that count, as far as this replica has seen; of a tenant with a part, or that has used some.',
    ({ limit, used }) => (limit === null && used === 0 ? null : used),
  );
  perPart(
    'tenant_budget_warn_at',
    "Requests from which an alert is due: warnAt of the tenant's part.",
    ({ warnAt }) => warnAt,
  );
}
