import { createHash } from 'node:crypto';
import type { Tenant, TenantKey } from './tenant.ts';

/** One key of one tenant, under its digest. */
export interface KeyEntry extends TenantKey {
  readonly tenant: Tenant;
}

/** Finds whose key it is. Only digests are compared, so a timing difference tells nothing about a key. */
export interface KeyStore {
  find(key: string): KeyEntry | undefined;
}

/** How many digests of valid keys are remembered: enough for every key of a large team, little memory. */
const REMEMBERED = 10_000;

/**
 * @param entries by lower-case hex of the SHA-256 of the key
 *
 * Known keys are remembered with their entry, so a busy tenant's key is hashed once. Unknown ones are hashed each time
 * and never remembered: a guesser must not be able to push the good ones out.
 */
export function createKeyStore(entries: ReadonlyMap<string, KeyEntry>): KeyStore {
  const remembered = new Map<string, KeyEntry>();
  return {
    find(key) {
      const known = remembered.get(key);
      if (known !== undefined) return known;
      const entry = entries.get(sha256(key));
      if (entry === undefined) return undefined;
      if (remembered.size >= REMEMBERED) remembered.clear();
      remembered.set(key, entry);
      return entry;
    },
  };
}

/** Header values arrive as latin1; a key is hashed as the bytes the caller sent. */
function sha256(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('hex');
}
