import type { Clock } from '../clock.ts';
import { extend, type Outcome, type Received, refuse, type Stage } from '../exchange.ts';
import type { GuessGuard } from './guards.ts';
import type { KeyRing } from './keys.ts';
import { presentedKey } from './presented.ts';
import type { Tenant, UsedKey } from './tenant.ts';

export interface Authenticated {
  readonly tenant: Tenant;
  readonly key: UsedKey;
}

/** Key → tenant. From here on the caller's key is never looked at again. */
export function authenticate<E extends Received>(options: {
  readonly keys: KeyRing;
  readonly guesses: GuessGuard;
  readonly clock: Clock;
}): Stage<E, E & Authenticated> {
  const { keys, guesses, clock } = options;
  // A missing key is no guess: probes of balancers come without one, from the address of all callers behind them.
  const fail = (exchange: E, code: 'key_unknown' | 'tenant_disabled' | 'key_expired'): Outcome => {
    guesses.failed(exchange.clientAddress);
    return refuse(code);
  };
  return (next) => (exchange) => {
    const blockedMs = guesses.blockedForMs(exchange.clientAddress);
    // Whatever key it has now: the right one would tell that it was found.
    if (blockedMs > 0) return refuse('address_blocked', { retryAfterSeconds: Math.ceil(blockedMs / 1000) });
    const presented = presentedKey(exchange.rawHeaders);
    if (presented.kind === 'none') return refuse('key_missing');
    if (presented.kind === 'conflict') return refuse('key_conflict');
    const entry = keys.find(presented.key);
    if (entry === undefined) return fail(exchange, 'key_unknown');
    exchange.notes.tenant = entry.tenant.id;
    exchange.notes.key = entry.id;
    if (entry.tenant.disabled) return fail(exchange, 'tenant_disabled');
    if (entry.expiresAtMs !== null && entry.expiresAtMs <= clock.now()) return fail(exchange, 'key_expired');
    return next(extend(exchange, { tenant: entry.tenant, key: entry }));
  };
}
