import { type Middleware, type RequestContext, reject } from '../context.ts';

/** Blocks addresses that guess keys. Every request asks it, so it responds from memory. */
export interface FailedAuthLimit {
  /** 0: not blocked. */
  blockedForMs(address: string): number;
  /** Counts a key that is unknown, expired or of a disabled tenant. */
  failed(address: string): void;
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
