import { type Received, refuse, type Stage } from '../exchange.ts';
import type { Authenticated } from './authenticate.ts';
import type { FloodGuard } from './guards.ts';

/** Stands behind authentication: what is refused here costs no more than knowing the key. */
export function holdBackFloods<E extends Received & Authenticated>(options: {
  readonly floods: FloodGuard;
}): Stage<E, E> {
  return (next) => (exchange) => {
    const blockedMs = options.floods.blockedForMs(exchange.tenant.id);
    if (blockedMs > 0) return refuse('flood', { retryAfterSeconds: Math.max(1, Math.ceil(blockedMs / 1000)) });
    return next(exchange);
  };
}
