import type { Clock } from '../clock.ts';
import { extend, type Middleware, type RequestContext, type Result, reject } from '../context.ts';
import type { FailedAuthLimit } from './abuse-limits.ts';
import type { KeyStore, Tenant, TenantKey } from './key-store.ts';

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
