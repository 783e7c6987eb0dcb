import type { Clock } from '../clock.ts';
import { extend, type Received, refuse, type Stage } from '../exchange.ts';
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
  readonly clock: Clock;
}): Stage<E, E & Authenticated> {
  const { keys, clock } = options;
  return (next) => (exchange) => {
    const presented = presentedKey(exchange.rawHeaders);
    if (presented.kind === 'none') return refuse('key_missing');
    if (presented.kind === 'conflict') return refuse('key_conflict');
    const entry = keys.find(presented.key);
    if (entry === undefined) return refuse('key_unknown');
    exchange.notes.tenant = entry.tenant.id;
    exchange.notes.key = entry.id;
    if (entry.tenant.disabled) return refuse('tenant_disabled');
    if (entry.expiresAtMs !== null && entry.expiresAtMs <= clock.now()) return refuse('key_expired');
    return next(extend(exchange, { tenant: entry.tenant, key: entry }));
  };
}
