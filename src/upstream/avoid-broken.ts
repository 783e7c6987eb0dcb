import type { Clock } from '../clock.ts';
import { type OnTerms, type Refusal, refuse, type Stage } from '../exchange.ts';
import { retryAfterSeconds } from '../quota/quota.ts';
import type { Routed } from '../routing/route.ts';
import type { Stake } from './breaker.ts';
import type { Upstreams } from './upstreams.ts';

interface Bound extends Routed, OnTerms {
  readonly route: { readonly upstream: { readonly id: string } };
}

/**
 * Refuses what would be sent to an upstream that keeps failing: before its body is read, before it waits, before it spends
 * anything. It only looks; a probe's place is taken when it is sent, or one that waits for a slot would hold up the recovery.
 */
export function avoidBroken<E extends Bound>(options: {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
}): Stage<E, E> {
  const { upstreams, clock, random } = options;
  return (next) => (exchange) => {
    const { breaker } = upstreams.of(exchange.route.upstream.id);
    const retryAfterMs = breaker.refuses(stakeOf(exchange), clock.monotonic());
    return retryAfterMs === null ? next(exchange) : refuseBroken(retryAfterMs, random);
  };
}

export function stakeOf({ method, terms }: OnTerms & { readonly method: string }): Stake {
  if (terms.background) return 'background';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}

export function refuseBroken(retryAfterMs: number, random: () => number): Refusal {
  return refuse('breaker_open', { retryAfterSeconds: retryAfterSeconds(retryAfterMs, random) });
}
