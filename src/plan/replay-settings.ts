import { digestOf } from '../auth/tenant.ts';
import type { Settings, TenantSettings } from '../config/settings.ts';
import { Secret } from '../secret.ts';

/**
 * The settings to replay with: all that decides about requests, in this process alone, without a secret, a log or a connection.
 * Each tenant has the keys of {@link keyOf}, and the credential of an account is its name.
 */
export function replaySettings(settings: Settings): Settings {
  const accounts = [...settings.accounts].map(([id, account]) => {
    const credentials = account.credentials.map((each) => ({
      ...{ kind: 'apiKey' as const, id: each.id, apiKey: new Secret(id) },
    }));
    // Nothing is known of the minute before the log, and no response says it.
    return [id, { ...account, credentials, quota: { ...account.quota, coldStart: 'idle' as const } }] as const;
  });
  return {
    ...settings,
    redis: null,
    stateDir: null,
    accounts: new Map(accounts),
    tenants: new Map([...settings.tenants].map(([id, tenant]) => [id, withReplayKeys(tenant)])),
    identity: { issuers: new Map() },
    tracing: { exporter: null, propagate: false },
    log: { level: 'silent', access: 'off' },
    secrets: [],
  };
}

/** A key for each key and identity, with its limits, and one without any for those that are gone meanwhile. */
function withReplayKeys(tenant: TenantSettings): TenantSettings {
  const { id: name, keys, identities } = tenant;
  const terms = [
    ...keys,
    ...identities.map(({ id, allow, cidrs }) => ({ id, allow, cidrs, expiresAtMs: null })),
    { id: '', allow: null, cidrs: null, expiresAtMs: null },
  ];
  const replayed = terms.map(({ id, allow, cidrs, expiresAtMs }) => ({
    ...{ id, allow, cidrs, expiresAtMs },
    sha256: digestOf(`${name}/${id}`),
  }));
  return { ...tenant, keys: replayed, identities: [] };
}

/** The key with which a recorded request is replayed. Without a known key it has the permissions of its tenant. */
export function keyOf(settings: Settings, tenant: string, key: string): string {
  const { keys = [], identities = [] } = settings.tenants.get(tenant) ?? {};
  const isKnown = [...keys, ...identities].some(({ id }) => id === key);
  return `${tenant}/${isKnown ? key : ''}`;
}
