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
  /** How long its requests may wait for a slot, unless they say otherwise. */
  readonly quota: { readonly maxWaitMs: number };
  /** Most permits at each upstream; null: half of all. */
  readonly maxInFlight: number | null;
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

/** SHA-256 in lower-case hex. Node decodes header values as latin1, so this hashes the bytes that the caller sent. */
export function digestOf(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('hex');
}
