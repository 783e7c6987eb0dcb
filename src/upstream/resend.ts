import { Readable } from 'node:stream';
import type { Clock, MonotonicMs } from '../clock.ts';
import type { HangUp, OnTerms } from '../exchange.ts';
import type { Meter } from '../observe.ts';
import type { Slot } from '../quota/ledger.ts';
import type { Admitted } from '../quota/quota.ts';
import type { Routed } from '../routing/route.ts';
import { stakeOf } from './avoid-broken.ts';
import type { Verdict } from './breaker.ts';
import type { Uploaded } from './payload.ts';
import { mayBeRepeated, pauseBefore } from './retry.ts';
import type { Sent } from './sender.ts';
import type { UpstreamState, Upstreams } from './upstreams.ts';

export interface ResendOptions {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
  readonly meter: Meter;
}

/** What came of it, or `broken`: nothing was sent, and the slot is unspent. */
export type Resent = Sent | { readonly kind: 'broken'; readonly retryAfterMs: number };

/** One attempt with this slot, in what is left of the upstream's timeout. */
export type Attempt = (slot: Slot, timeoutMs: number) => Promise<Sent>;

interface Resendable extends Routed, OnTerms, Uploaded, Admitted {
  readonly route: { readonly upstream: { readonly id: string; readonly timeoutMs: number } };
}

/**
 * Sends a request, and again what may be repeated, as long as there are retries, a budget, a slot for each of them, time within
 * the upstream's timeout, and a caller. Where one of these is lacking, the failure at hand is the answer.
 */
export function createResend(options: ResendOptions) {
  const { upstreams, clock, random, meter } = options;

  const observed = (
    { breaker }: UpstreamState,
    exchange: Resendable,
    slot: Slot,
    attempt: Attempt,
    timeoutMs: number,
  ): Resent | Promise<Resent> => {
    const passage = breaker.pass(stakeOf(exchange), clock.monotonic());
    if (passage.kind === 'refused') {
      slot.refund();
      return { kind: 'broken', retryAfterMs: passage.retryAfterMs };
    }
    // Reported whatever happens: a probe that never ended would keep the breaker half-open for ever.
    const report = (verdict: Verdict): void => breaker.report(passage, verdict, clock.monotonic());
    try {
      return attempt(slot, timeoutMs).then(
        (sent) => {
          report(verdictOf(sent));
          return sent;
        },
        (error: unknown) => {
          report('void');
          throw error;
        },
      );
    } catch (error) {
      report('void');
      throw error;
    }
  };

  /** A slot for one more attempt, after a pause; null: there is none. */
  const oneMore = async (state: UpstreamState, exchange: Resendable, pauseMs: number): Promise<Slot | null> => {
    if (!(await pause(clock, pauseMs, exchange.hangUp))) return null;
    const now = clock.monotonic();
    if (state.breaker.refuses(stakeOf(exchange), now) !== null || !state.budget.take(now)) return null;
    const again = await exchange.admitAgain();
    return again.kind === 'admitted' ? again.slot : null;
  };

  return async (exchange: Resendable, first: Slot, attempt: Attempt): Promise<Resent> => {
    const { id, timeoutMs } = exchange.route.upstream;
    const state = upstreams.of(id);
    const until = (clock.monotonic() + timeoutMs) as MonotonicMs;
    let result = await observed(state, exchange, first, attempt, timeoutMs);
    state.budget.deposit();
    for (let repeats = 0; repeats < state.rules.retries.most; repeats += 1) {
      if (result.kind === 'broken' || !mayBeRepeated(exchange, result)) return result;
      const pauseMs = pauseBefore(repeats, result, random);
      if (clock.monotonic() + pauseMs >= until) return result;
      const slot = await oneMore(state, exchange, pauseMs);
      if (slot === null) return result;
      const leftMs = until - clock.monotonic();
      if (leftMs <= 0) {
        slot.refund();
        return result;
      }
      const next = await observed(state, exchange, slot, attempt, leftMs);
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
export function verdictOf(sent: Sent): Verdict {
  if (sent.kind === 'answered') return sent.status >= 500 ? 'failed' : 'good';
  return sent.reason === 'unreachable' || sent.reason === 'timeout' || sent.reason === 'protocol' ? 'failed' : 'void';
}

/** False: the caller has left, and nobody waits for what would come of it. */
function pause(clock: Clock, ms: number, hangUp: HangUp): Promise<boolean> {
  if (hangUp.happened) return Promise.resolve(false);
  return new Promise((resolve) => {
    const cancel = clock.after(ms, () => {
      stopListening();
      resolve(true);
    });
    const stopListening = hangUp.onHangUp(() => {
      cancel();
      resolve(false);
    });
  });
}
