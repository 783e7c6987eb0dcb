import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { extend, type Middleware, type RequestContext, type Result, reject } from '../context.ts';
import type { Pattern } from '../routing/pattern.ts';

export interface Tenant {
  readonly id: string;
  readonly account: string;
  readonly disabled: boolean;
  /** Null: everything except the denylist. */
  readonly allow: readonly Pattern[] | null;
  /** `observe`: its rate, budgets and `allow` are evaluated and counted, not enforced. */
  readonly enforcement: 'enforce' | 'observe';
}

/** The key that a tenant used: its id and expiry, never the key itself. */
export interface TenantKey {
  readonly id: string;
  readonly expiresAtMs: number | null;
}

export interface KeyEntry extends TenantKey {
  readonly tenant: Tenant;
}

/** Finds the tenant of a key. Only digests are compared, so response times reveal nothing about a key. */
export interface KeyStore {
  find(key: string): KeyEntry | undefined;
}

/** Blocks addresses that guess keys. Every request asks it, so it responds from memory. */
export interface FailedAuthLimit {
  /** 0: not blocked. */
  blockedForMs(address: string): number;
  /** Counts a key that is unknown, expired or of a disabled tenant, before it returns: the next request sees the count. */
  failed(address: string): void;
}

export interface Authenticated {
  readonly tenant: Tenant;
  readonly key: TenantKey;
}

/** Finds the tenant of the caller's key. No later middleware reads the key. */
export function authenticate<E extends RequestContext>(options: {
  readonly keys: KeyStore;
  readonly failedAuthLimit: FailedAuthLimit;
  readonly clock: Clock;
}): Middleware<E, E & Authenticated> {
  const { keys, failedAuthLimit, clock } = options;
  // A missing key is not counted: the probes of a load balancer have none, and share an address with its callers.
  const fail = (context: E, code: 'key_unknown' | 'tenant_disabled' | 'key_expired'): Result => {
    failedAuthLimit.failed(context.clientAddress);
    return reject(code);
  };
  return (next) => async (context) => {
    const blockedMs = failedAuthLimit.blockedForMs(context.clientAddress);
    // A valid key is rejected too: otherwise a guesser would learn that it is valid.
    if (blockedMs > 0) return reject('address_blocked', { retryAfterSeconds: Math.ceil(blockedMs / 1000) });
    const extracted = extractKey(context.rawHeaders);
    if (extracted.kind === 'none') return reject('key_missing');
    if (extracted.kind === 'conflict') return reject('key_conflict');
    const entry = keys.find(extracted.key);
    if (entry === undefined) return fail(context, 'key_unknown');
    context.record.tenant = entry.tenant.id;
    context.record.key = entry.id;
    if (entry.tenant.disabled) return fail(context, 'tenant_disabled');
    if (entry.expiresAtMs !== null && entry.expiresAtMs <= clock.now()) return fail(context, 'key_expired');
    return next(extend(context, { tenant: entry.tenant, key: entry }));
  };
}

export type ExtractedKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'key'; readonly key: string };

/**
 * Reads `Authorization: Bearer <key>`, `Authorization: <key>` (as Patchworks clients send it) and `X-API-Key: <key>`. A request
 * may repeat the same key. Two different keys are a conflict: a proxy in front of the gateway may have checked the other one.
 * Reads raw headers, because Node's parsed form drops the second of two `Authorization` fields.
 */
export function extractKey(rawHeaders: readonly string[]): ExtractedKey {
  let key: string | null = null;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    if (name !== 'authorization' && name !== 'x-api-key') continue;
    const field = (rawHeaders[i + 1] as string).trim();
    const value = name === 'authorization' ? withoutScheme(field) : field;
    if (value === '') continue;
    if (key !== null && key !== value) return { kind: 'conflict' };
    key = value;
  }
  return key === null ? { kind: 'none' } : { kind: 'key', key };
}

function withoutScheme(credentials: string): string {
  return /^bearer(?:[ \t]|$)/i.test(credentials) ? credentials.slice('bearer'.length).trim() : credentials;
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
      const entry = entries.get(sha256(key));
      if (entry === undefined) return undefined;
      if (remembered.size >= MAX_REMEMBERED_KEYS) remembered.clear();
      remembered.set(key, entry);
      return entry;
    },
  };
}

/** Node decodes header values as latin1, so this hashes the bytes that the caller sent. */
function sha256(key: string): string {
  return createHash('sha256').update(key, 'latin1').digest('hex');
}

/** Limits how fast a tenant may call the gateway itself, with requests that use no quota: cached and rejected ones. */
export interface FloodLimit {
  /** Counts a request. 0: it may pass. */
  blockedForMs(tenant: string): number;
}

/** Runs directly after authentication, so that a rejected request costs no more than the lookup of its key. */
export function floodProtection<E extends RequestContext & { readonly tenant: { readonly id: string } }>(options: {
  readonly floodLimit: FloodLimit;
}): Middleware<E, E> {
  return (next) => async (context) => {
    const blockedMs = options.floodLimit.blockedForMs(context.tenant.id);
    if (blockedMs > 0) return reject('flood', { retryAfterSeconds: Math.max(1, Math.ceil(blockedMs / 1000)) });
    return next(context);
  };
}
