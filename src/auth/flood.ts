import { type Middleware, type RequestContext, reject } from '../context.ts';
import type { Authenticated } from './authenticate.ts';
import type { FloodLimit } from './guards.ts';

/** Stands behind authentication: what is refused here costs no more than knowing the key. */
export function floodProtection<E extends RequestContext & Authenticated>(options: {
  readonly floods: FloodLimit;
}): Middleware<E, E> {
  return (next) => (context) => {
    const blockedMs = options.floods.blockedForMs(context.tenant.id);
    if (blockedMs > 0) return reject('flood', { retryAfterSeconds: Math.max(1, Math.ceil(blockedMs / 1000)) });
    return next(context);
  };
}
