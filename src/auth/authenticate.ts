import type { Clock } from '../clock.ts';
import { extend, type Middleware, type RequestContext, type Result, reject } from '../context.ts';
import { extractKey } from './extract-key.ts';
import type { KeyStore, Tenant, TenantKey } from './key-store.ts';

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
    // Not counted as a failure: the key was not guessed, and other callers may share the address.
    if (entry.cidrs?.includes(context.clientAddress) === false) return reject('address_forbidden');
    return next(extend(context, { tenant: entry.tenant, key: entry }));
  };
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
