import { Readable } from 'node:stream';
import type { Clock, MonotonicMs } from '../clock.ts';
import type { ClientDisconnect, WithWaitTerms } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Slot } from '../quota/ledger.ts';
import type { Admitted } from '../quota/quota.ts';
import type { Routed } from '../routing/match-route.ts';
import { riskOf } from './avoid-broken.ts';
import type { AttemptResult } from './circuit-breaker.ts';
import type { WithPayload } from './request-body.ts';
import { isRetryable, retryDelayMs } from './retry-policy.ts';
import type { TransportResult } from './transport.ts';
import type { UpstreamState, Upstreams } from './upstreams.ts';

export interface RetryOptions {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
  readonly meter: Meter;
}

/** What came of it, or `broken`: nothing was sent, and the slot is unspent. */
export type RetryResult = TransportResult | { readonly kind: 'broken'; readonly retryAfterMs: number };

/** One attempt with this slot, in what is left of the upstream's timeout. */
export type SendAttempt = (slot: Slot, timeoutMs: number) => Promise<TransportResult>;

interface Resendable extends Routed, WithWaitTerms, WithPayload, Admitted {
  readonly route: { readonly upstream: { readonly id: string; readonly timeoutMs: number } };
}

/**
 * Sends a request, and again what may be repeated, as long as there are retries, a budget, a slot for each of them, time within
 * the upstream's timeout, and a caller. Where one of these is lacking, the failure at hand is the answer.
 */
export function createRetry(options: RetryOptions) {
  const { upstreams, clock, random, meter } = options;

  const observed = async (
    { breaker }: UpstreamState,
    context: Resendable,
    slot: Slot,
    attempt: SendAttempt,
    timeoutMs: number,
  ): Promise<RetryResult> => {
    const passage = breaker.pass(riskOf(context), clock.monotonic());
    if (passage.kind === 'refused') {
      slot.refund();
      return { kind: 'broken', retryAfterMs: passage.retryAfterMs };
    }
    // Reported whatever happens: a probe that never ended would keep the breaker half-open for ever.
    let verdict: AttemptResult = 'void';
    try {
      const sent = await attempt(slot, timeoutMs);
      verdict = attemptResultOf(sent);
      return sent;
    } finally {
      breaker.report(passage, verdict, clock.monotonic());
    }
  };

  /** A slot for one more attempt, after a pause; null: there is none. */
  const oneMore = async (state: UpstreamState, context: Resendable, pauseMs: number): Promise<Slot | null> => {
    if (!(await pause(clock, pauseMs, context.disconnect))) return null;
    const now = clock.monotonic();
    if (state.breaker.retryAfterMs(riskOf(context), now) !== null || !state.retryBudget.take(now)) return null;
    const again = await context.admitAgain();
    return again.kind === 'admitted' ? again.slot : null;
  };

  return async (context: Resendable, first: Slot, attempt: SendAttempt): Promise<RetryResult> => {
    const { id, timeoutMs } = context.route.upstream;
    const state = upstreams.of(id);
    const until = (clock.monotonic() + timeoutMs) as MonotonicMs;
    let result = await observed(state, context, first, attempt, timeoutMs);
    state.retryBudget.deposit();
    for (let repeats = 0; repeats < state.rules.retries.max; repeats += 1) {
      if (result.kind === 'broken' || !isRetryable(context, result)) return result;
      const pauseMs = retryDelayMs(repeats, result, random);
      if (clock.monotonic() + pauseMs >= until) return result;
      const slot = await oneMore(state, context, pauseMs);
      if (slot === null) return result;
      const leftMs = until - clock.monotonic();
      if (leftMs <= 0) {
        slot.refund();
        return result;
      }
      const next = await observed(state, context, slot, attempt, leftMs);
      // Another's failure has opened the breaker while the ledger was asked.
      if (next.kind === 'broken') return result;
      if (result.kind === 'answered' && result.body instanceof Readable) result.body.destroy();
      meter.upstreamRetry(id, result.kind === 'answered' ? String(result.status) : result.reason);
      result = next;
    }
    return result;
  };
}

/** 429 and 4xx come of an upstream that is well. What the caller broke off says nothing. */
export function attemptResultOf(sent: TransportResult): AttemptResult {
  if (sent.kind === 'answered') return sent.status >= 500 ? 'failed' : 'good';
  return sent.reason === 'unreachable' || sent.reason === 'timeout' || sent.reason === 'protocol' ? 'failed' : 'void';
}

/** False: the caller has left, and nobody waits for what would come of it. */
function pause(clock: Clock, ms: number, disconnect: ClientDisconnect): Promise<boolean> {
  if (disconnect.happened) return Promise.resolve(false);
  return new Promise((resolve) => {
    const cancel = clock.after(ms, () => {
      stopListening();
      resolve(true);
    });
    const stopListening = disconnect.onDisconnect(() => {
      cancel();
      resolve(false);
    });
  });
}
