import type { KeyFindings, KeyNames, KeyStatus } from '../admin/status/document.ts';
import { type KeyUse, type KeyUses, lastMinuteOf } from '../auth/key-use.ts';
import type { EpochMs } from '../clock.ts';
import type { TenantSettings } from '../config/settings.ts';

/** A key or an identity of a tenant, as the configuration has it. */
type Caller = Pick<KeyStatus, 'id' | 'kind'> & { readonly expiresAtMs: number | null };

const DAY_MS = 86_400_000;
const ENDING_MS = 14 * DAY_MS;
const UNUSED_MS = 30 * DAY_MS;
/** The page is read on a phone; GET /status has all keys. */
const MAX_NAMES = 5;

/** The keys and identities of a tenant. Tokens of an identity expire, it does not. */
export function callersOf({ keys, identities }: Pick<TenantSettings, 'keys' | 'identities'>): Caller[] {
  return [
    ...keys.map(({ id, expiresAtMs }) => ({ id, kind: 'key' as const, expiresAtMs })),
    ...identities.map(({ id }) => ({ id, kind: 'identity' as const, expiresAtMs: null })),
  ];
}

export function keyStatusOf({ id, kind, expiresAtMs }: Caller, use: KeyUse, now: EpochMs): KeyStatus {
  const lastUsed = lastMinuteOf(use);
  return {
    id,
    kind,
    expires: isoOf(expiresAtMs),
    expiresInMs: expiresAtMs === null ? null : Math.max(0, expiresAtMs - now),
    lastUsed: isoOf(lastUsed),
    unusedForMs: Math.max(0, now - (lastUsed ?? use.knownSince)),
  };
}

export function keyFindingsOf(tenants: Iterable<TenantSettings>, uses: KeyUses, now: EpochMs): KeyFindings {
  const found: Record<keyof KeyFindings, string[]> = { expired: [], ending: [], unused: [] };
  for (const each of tenants) {
    const { id: tenant, disabled } = each;
    if (disabled) continue;
    for (const key of callersOf(each)) {
      const { expiresInMs, unusedForMs } = keyStatusOf(key, uses.of(tenant, key.id), now);
      const finding =
        expiresInMs === 0
          ? found.expired
          : expiresInMs !== null && expiresInMs <= ENDING_MS
            ? found.ending
            : unusedForMs >= UNUSED_MS
              ? found.unused
              : null;
      finding?.push(`${tenant}/${key.id}`);
    }
  }
  return { expired: namesOf(found.expired), ending: namesOf(found.ending), unused: namesOf(found.unused) };
}

function namesOf(names: readonly string[]): KeyNames {
  return { count: names.length, first: names.slice(0, MAX_NAMES) };
}

function isoOf(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString();
}
