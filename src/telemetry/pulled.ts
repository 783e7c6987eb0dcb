import { Counter, Gauge, type Registry } from 'prom-client';
import { PREFIX } from './catalogue.ts';

/** Values that are read when Prometheus asks, instead of being kept up to date. */
export interface MetricSources {
  readonly accounts: () => readonly AccountReading[];
  /** Null for a store that cannot tell. */
  readonly cache: () => { readonly entries: number; readonly bytes: number } | null;
  readonly upstreams: () => readonly UpstreamReading[];
  /** Keys that never expire are left out. */
  readonly keyExpiries: () => readonly KeyExpiry[];
  readonly credentials: () => readonly CredentialReading[];
  /** Of the configuration in use. */
  readonly revision: () => string;
  /** Default: embedded state, which is always up and never a fallback. */
  readonly state?: () => { readonly up: boolean; readonly fallback: boolean };
  /** Of the ports that speak TLS; left out where none can. */
  readonly certificates?: () => readonly CertificateExpiry[];
  /** Log lines lost so far; without it the metric is left out. */
  readonly logLinesDropped?: () => number;
}

export interface AccountReading {
  readonly id: string;
  readonly limit: number;
  readonly ceiling: number;
  readonly slotsInUse: number;
  readonly slotsForeign: number;
  readonly waiting: number;
  readonly replicas: number;
}

export interface UpstreamReading {
  readonly id: string;
  readonly breaker: keyof typeof BREAKER;
  readonly inFlight: number;
  readonly waiting: number;
}

/** By how much is refused, so that the greatest of several replicas means something. */
const BREAKER = { closed: 0, 'half-open': 1, open: 2 } as const;

export interface CredentialReading {
  readonly account: string;
  readonly id: string;
  /** From a rejection or a login that failed until it works again. */
  readonly failing: boolean;
}

export interface KeyExpiry {
  readonly tenant: string;
  readonly key: string;
  readonly epochSeconds: number;
}

export interface CertificateExpiry {
  readonly port: string;
  readonly epochSeconds: number;
}

type Reading = readonly [labels: Record<string, string>, value: number];

/** Gauges whose series are exactly what their source says at the moment: what it no longer names is gone. */
export function registerPulled(registry: Registry, sources: MetricSources): void {
  const pulled = (name: string, help: string, labelNames: string[], read: () => Iterable<Reading>): void => {
    new Gauge({
      name: PREFIX + name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.set(labels, value);
      },
    });
  };
  const single = (name: string, help: string, read: () => number): void => pulled(name, help, [], () => [[{}, read()]]);
  const perAccount = (name: string, help: string, read: (account: AccountReading) => number): void =>
    pulled(name, help, ['account'], () => sources.accounts().map((each) => [{ account: each.id }, read(each)]));
  const perUpstream = (name: string, help: string, read: (upstream: UpstreamReading) => number): void =>
    pulled(name, help, ['upstream'], () => sources.upstreams().map((each) => [{ upstream: each.id }, read(each)]));
  const state = sources.state ?? (() => ({ up: true, fallback: false }));

  perAccount('quota_limit', 'Requests a minute that Patchworks allows the account.', (each) => each.limit);
  perAccount('quota_ceiling', 'Requests that the gateway sends at most in any minute.', (each) => each.ceiling);
  perAccount('quota_slots_in_use', 'Slots of the window held by the gateway.', (each) => each.slotsInUse);
  perAccount(
    'quota_external_usage',
    'Slots taken by others on the account, as far as seen.',
    (each) => each.slotsForeign,
  );
  perAccount('quota_waiting', 'Requests waiting for a slot.', (each) => each.waiting);
  perAccount(
    'quota_replicas',
    'Replicas that count the account together, this one included; 0 until it has joined the others.',
    (each) => each.replicas,
  );
  perUpstream(
    'upstream_breaker_state',
    'Of this replica: 0 closed, 1 half-open (a few requests probe whether it is back), 2 open (nothing is sent).',
    (each) => BREAKER[each.breaker],
  );
  perUpstream(
    'upstream_in_flight',
    'Requests under way, to the end of their answers; maxInFlight at most.',
    (each) => each.inFlight,
  );
  perUpstream('upstream_waiting', 'Requests waiting until fewer are under way.', (each) => each.waiting);
  single('cache_entries', 'Answers kept in memory.', () => sources.cache()?.entries ?? 0);
  single('cache_bytes', 'Size of the answers kept in memory.', () => sources.cache()?.bytes ?? 0);
  single('redis_up', 'Whether the state that replicas share answers; 1 where it is embedded.', () => +state().up);
  single(
    'redis_fallback_active',
    'Whether this replica works on its own share of the ceiling.',
    () => +state().fallback,
  );
  pulled('tenant_key_expiry_timestamp_seconds', 'When a tenant key expires.', ['tenant', 'key'], () =>
    sources.keyExpiries().map(({ tenant, key, epochSeconds }) => [{ tenant, key }, epochSeconds]),
  );
  pulled(
    'tls_certificate_expiry_timestamp_seconds',
    'When the certificate of a port expires, or one of those that vouch for it, whichever is first.',
    ['port'],
    () => (sources.certificates?.() ?? []).map(({ port, epochSeconds }) => [{ port }, epochSeconds]),
  );
  pulled(
    'credential_up',
    'Whether a credential works, by its last use; 1 before the first.',
    ['account', 'credential'],
    () => sources.credentials().map(({ account, id, failing }) => [{ account, credential: id }, failing ? 0 : 1]),
  );
  pulled('config_info', 'The configuration in use: 1, with its revision.', ['revision'], () => [
    [{ revision: sources.revision() }, 1],
  ]);
  const { logLinesDropped } = sources;
  if (logLinesDropped) pulledCounter(registry, 'log_lines_dropped_total', 'Log lines lost.', logLinesDropped);
}

function pulledCounter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name: PREFIX + name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}
