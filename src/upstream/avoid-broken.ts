import type { Clock } from '../clock.ts';
import { type Middleware, type Rejection, reject, type WithWaitTerms } from '../context.ts';
import { retryAfterSeconds } from '../quota/quota.ts';
import type { Routed } from '../routing/match-route.ts';
import type { Risk } from './circuit-breaker.ts';
import type { Upstreams } from './upstreams.ts';

interface Bound extends Routed, WithWaitTerms {
  readonly route: { readonly upstream: { readonly id: string } };
}

/**
 * Refuses what would be sent to an upstream that keeps failing: before its body is read, before it waits, before it spends
 * anything. It only looks; a probe's place is taken when it is sent, or one that waits for a slot would hold up the recovery.
 */
export function circuitBreaker<E extends Bound>(options: {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
}): Middleware<E, E> {
  const { upstreams, clock, random } = options;
  return (next) => async (context) => {
    const { breaker } = upstreams.of(context.route.upstream.id);
    const retryAfterMs = breaker.retryAfterMs(riskOf(context), clock.monotonic());
    return retryAfterMs === null ? next(context) : rejectBreakerOpen(retryAfterMs, random);
  };
}

export function riskOf({ method, waitTerms: terms }: WithWaitTerms & { readonly method: string }): Risk {
  if (terms.background) return 'background';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}

export function rejectBreakerOpen(retryAfterMs: number, random: () => number): Rejection {
  return reject('breaker_open', { retryAfterSeconds: retryAfterSeconds(retryAfterMs, random) });
}
