import type { Settings } from '../config/settings.ts';
import type { MetricSources } from '../telemetry/gauges.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';

/** Values that the gauges read at each scrape, from the snapshot in force. */
export function metricSources(current: () => ConfigSnapshot, logLinesDropped: () => number): MetricSources {
  const dependencies = () => current().dependencies;
  const settings = () => dependencies().settings;
  return {
    accounts() {
      const { quotaStore, admissionQueue } = dependencies();
      return [...settings().accounts.keys()].map((id) => ({
        id,
        ...quotaStore.view(id),
        waiting: admissionQueue.waiting(id),
      }));
    },
    cache: () => dependencies().memory.size(),
    bodyMemory: () => dependencies().bodyMemory,
    upstreams: () => dependencies().upstreams.statuses(),
    keyExpiries: () => keyExpiriesOf(settings()),
    credentials: () =>
      current().credentials.map(({ account, settings: { id }, credential }) => ({
        account,
        id,
        failing: credential.failing(),
      })),
    revision: () => settings().revision,
    state: () => dependencies().state.status(),
    certificates: () => certificatesOf(settings()),
    logLinesDropped,
  };
}

/** Without disabled tenants: their keys are rejected anyway, and need no warning. */
export function keyExpiriesOf(settings: Settings) {
  const enabled = [...settings.tenants.values()].filter(({ disabled }) => !disabled);
  return enabled.flatMap((tenant) =>
    tenant.keys.flatMap(({ id, expiresAtMs }) =>
      expiresAtMs === null ? [] : [{ tenant: tenant.id, key: id, epochSeconds: expiresAtMs / 1000 }],
    ),
  );
}

/** A port without TLS has no certificate. */
function certificatesOf({ listen: { traffic, admin } }: Settings) {
  return Object.entries({ traffic, admin }).flatMap(([port, { tls }]) =>
    tls === null ? [] : [{ port, epochSeconds: tls.certificate.notAfterMs / 1000 }],
  );
}
