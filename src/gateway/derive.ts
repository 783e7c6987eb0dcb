import { createKeyStore, type KeyEntry, type KeyStore } from '../auth/key-store.ts';
import type { Settings } from '../config/model.ts';
import type { AccountQuota, LedgerPlan, TenantQuota } from '../quota/ledger.ts';
import type { Standing } from '../quota/waiting.ts';

/** What follows from the settings alone, in the form each part wants it. */
export function keyStoreOf(settings: Settings): KeyStore {
  const entries = new Map<string, KeyEntry>();
  for (const { id, account, disabled, allow, keys } of settings.tenants.values()) {
    const tenant = { id, account, disabled, allow };
    for (const key of keys) entries.set(key.sha256, { id: key.id, expiresAtMs: key.expiresAtMs, tenant });
  }
  return createKeyStore(entries);
}

/**
 * @param older settings that requests in flight still go by: their tenants and accounts must be known until those are done,
 *   but nothing is kept for them any more
 */
export function planOf(settings: Settings, older: readonly Settings[] = []): LedgerPlan {
  const accounts = new Map<string, AccountQuota>();
  const tenants = new Map<string, Map<string, TenantQuota>>();
  for (const each of [settings, ...older]) {
    for (const { id, quota } of each.accounts.values()) {
      if (accounts.has(id)) continue;
      accounts.set(id, quota);
      tenants.set(id, new Map());
    }
    for (const { id, account, disabled, quota } of each.tenants.values()) {
      const known = tenants.get(account);
      // Slots kept for a tenant that can not call would be nobody's.
      const guarantee = each === settings && !disabled ? quota.reserved : 0;
      if (known?.has(id) === false) known.set(id, { ...quota, reserved: guarantee });
    }
  }
  return { accounts, tenants };
}

/** Those of a disabled tenant open nothing anyway: nobody has to be told that they expire. */
export function keyExpiriesOf(settings: Settings) {
  const enabled = [...settings.tenants.values()].filter(({ disabled }) => !disabled);
  return enabled.flatMap((tenant) =>
    tenant.keys.flatMap(({ id, expiresAtMs }) =>
      expiresAtMs === null ? [] : [{ tenant: tenant.id, key: id, epochSeconds: expiresAtMs / 1000 }],
    ),
  );
}

/** Those in use; a port without TLS has none. */
export function certificatesOf({ listen: { traffic, admin } }: Settings) {
  return Object.entries({ traffic, admin }).flatMap(([port, { tls }]) =>
    tls === null ? [] : [{ port, epochSeconds: tls.certificate.notAfterMs / 1000 }],
  );
}

export function standingOf({ tenants }: Settings, id: string): Standing {
  const tenant = tenants.get(id);
  if (tenant === undefined) return 'removed';
  return tenant.disabled ? 'disabled' : 'welcome';
}
