import { lastMinuteOf } from '../auth/key-use.ts';
import type { Settings } from '../config/settings.ts';
import type { MetricSources } from '../telemetry/gauges.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';
import type { Dependencies } from './dependencies.ts';
import { accountViewsOf, callersOf } from './status-parts.ts';

/** Values that the gauges read at each scrape, from the snapshot in force. */
export function metricSources(current: () => ConfigSnapshot, logLinesDropped: () => number): MetricSources {
  const dependencies = () => current().dependencies;
  const settings = () => dependencies().settings;
  return {
    accounts: () => accountViewsOf(dependencies()),
    tenantBudgets() {
      const { quotaStore } = dependencies();
      return [...settings().tenants.values()].flatMap(({ id: tenant, accounts }) =>
        accounts.map((account) => ({ tenant, budgets: quotaStore.peek(account, tenant).budgets ?? [] })),
      );
    },
    cache: () => dependencies().memory.size(),
    bodyMemory: () => dependencies().bodyMemory,
    upstreams: () => dependencies().upstreams.statuses(),
    keyExpiries: () => keyExpiriesOf(settings()),
    keyUses: () => keyUsesOf(dependencies()),
    credentials: () =>
      current().credentials.map(({ account, settings: { id }, credential }) => ({
        account,
        id,
        failing: credential.status().failing,
      })),
    issuers: () => current().issuerKeys.map(({ issuer, keys }) => ({ issuer, ...keys.status() })),
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

function keyUsesOf({ settings, keyUses }: Pick<Dependencies, 'settings' | 'keyUses'>) {
  return [...settings.tenants.values()].flatMap((tenant) =>
    callersOf(tenant).flatMap(({ id: key }) => {
      const lastUsed = lastMinuteOf(keyUses.of(tenant.id, key));
      return lastUsed === null ? [] : [{ tenant: tenant.id, key, epochSeconds: lastUsed / 1000 }];
    }),
  );
}

/** A port without TLS has no certificate. */
function certificatesOf({ listen: { traffic, admin } }: Settings) {
  return Object.entries({ traffic, admin }).flatMap(([port, { tls }]) =>
    tls === null ? [] : [{ port, epochSeconds: tls.certificate.notAfterMs / 1000 }],
  );
}
