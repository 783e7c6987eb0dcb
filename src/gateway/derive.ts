import { createKeyRing, type KeyEntry, type KeyRing } from '../auth/keys.ts';
import type { Settings } from '../config/model.ts';
import type { LedgerPlan } from '../quota/ledger.ts';

/** What follows from the settings alone, in the form each part wants it. */
export function keyRingOf(settings: Settings): KeyRing {
  const entries = new Map<string, KeyEntry>();
  for (const { id, account, disabled, allow, keys } of settings.tenants.values()) {
    const tenant = { id, account, disabled, allow };
    for (const key of keys) entries.set(key.sha256, { id: key.id, expiresAtMs: key.expiresAtMs, tenant });
  }
  return createKeyRing(entries);
}

export function planOf(settings: Settings): LedgerPlan {
  const accounts = new Map([...settings.accounts].map(([id, account]) => [id, account.quota]));
  const tenants = new Map([...accounts.keys()].map((id) => [id, new Map()]));
  for (const tenant of settings.tenants.values()) tenants.get(tenant.account)?.set(tenant.id, tenant.quota);
  return { accounts, tenants };
}

export function keyExpiriesOf(settings: Settings) {
  return [...settings.tenants.values()].flatMap((tenant) =>
    tenant.keys.flatMap(({ id, expiresAtMs }) =>
      expiresAtMs === null ? [] : [{ tenant: tenant.id, key: id, epochSeconds: expiresAtMs / 1000 }],
    ),
  );
}
