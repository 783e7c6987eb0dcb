import type { Clock } from '../clock.ts';
import { extend, type Middleware, type RequestContext, type Result, reject } from '../context.ts';
import { extractKey } from './extract-key.ts';
import type { FailedAuthLimit } from './guards.ts';
import type { KeyStore } from './key-store.ts';
import type { Tenant, TenantKey } from './tenant.ts';

export interface Authenticated {
  readonly tenant: Tenant;
  readonly key: TenantKey;
}

/** Key → tenant. From here on the caller's key is never looked at again. */
export function authenticate<E extends RequestContext>(options: {
  readonly keys: KeyStore;
  readonly guesses: FailedAuthLimit;
  readonly clock: Clock;
}): Middleware<E, E & Authenticated> {
  const { keys, guesses, clock } = options;
  // A missing key is no guess: probes of balancers come without one, from the address of all callers behind them.
  const fail = (context: E, code: 'key_unknown' | 'tenant_disabled' | 'key_expired'): Result => {
    guesses.failed(context.clientAddress);
    return reject(code);
  };
  return (next) => (context) => {
    const blockedMs = guesses.blockedForMs(context.clientAddress);
    // Whatever key it has now: the right one would tell that it was found.
    if (blockedMs > 0) return reject('address_blocked', { retryAfterSeconds: Math.ceil(blockedMs / 1000) });
    const presented = extractKey(context.rawHeaders);
    if (presented.kind === 'none') return reject('key_missing');
    if (presented.kind === 'conflict') return reject('key_conflict');
    const entry = keys.find(presented.key);
    if (entry === undefined) return fail(context, 'key_unknown');
    context.record.tenant = entry.tenant.id;
    context.record.key = entry.id;
    if (entry.tenant.disabled) return fail(context, 'tenant_disabled');
    if (entry.expiresAtMs !== null && entry.expiresAtMs <= clock.now()) return fail(context, 'key_expired');
    return next(extend(context, { tenant: entry.tenant, key: entry }));
  };
}
