import { createHash } from 'node:crypto';
import type { Pattern } from '../routing/pattern.ts';
import type { KeyUse } from './key-use.ts';

export interface Tenant {
  readonly id: string;
  /** Never empty. */
  readonly accounts: readonly string[];
  readonly disabled: boolean;
  /** Null: everything except the denylist. */
  readonly allow: readonly Pattern[] | null;
  /** `observe`: its rate, budgets and `allow` are evaluated and counted, not enforced. */
  readonly enforcement: 'enforce' | 'observe';
}

/** The key or identity that a tenant used: its id and what it may be used for, never the key or token itself. */
export interface TenantKey {
  readonly id: string;
  /** `identity`: a token or a client certificate. */
  readonly kind: 'key' | 'identity';
  readonly expiresAtMs: number | null;
  /** Narrows the permissions of its tenant; null: it has all of them. Enforced for an observed tenant too. */
  readonly allow: readonly Pattern[] | null;
  /** Addresses of callers that may use it; null: any. */
  readonly cidrs: AddressRanges | null;
}

export interface AddressRanges {
  /** As written. */
  readonly cidrs: readonly string[];
  /** False for a text that is no address. */
  includes(address: string): boolean;
}

export interface KeyEntry extends TenantKey {
  readonly tenant: Tenant;
  readonly use: KeyUse;
}

/** Finds the tenant of a key. Only digests are compared, so response times reveal nothing about a key. */
export interface KeyStore {
  find(key: string): KeyEntry | undefined;
}

/** Enough for every key of a large team, in little memory. */
const MAX_REMEMBERED_KEYS = 10_000;

/**
 * @param entries by the SHA-256 of the key, in lower-case hex
 *
 * Valid keys are remembered in the clear, so a busy tenant's key is hashed once. Unknown keys are hashed each time and not
 * remembered: a guesser must not be able to evict the valid ones.
 */
export function createKeyStore(entries: ReadonlyMap<string, KeyEntry>): KeyStore {
  const remembered = new Map<string, KeyEntry>();
  return {
    find(key) {
      const known = remembered.get(key);
      if (known !== undefined) return known;
      const entry = entries.get(digestOf(key));
      if (entry === undefined) return undefined;
      if (remembered.size >= MAX_REMEMBERED_KEYS) remembered.clear();
      remembered.set(key, entry);
      return entry;
    },
  };
}

/** SHA-256 in lower-case hex. Node decodes header values as latin1, so this hashes the bytes that the caller sent. */
export function digestOf(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('hex');
}
