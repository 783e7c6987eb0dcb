import { Readable } from 'node:stream';
import type { Clock, MonotonicMs, Random } from '../clock.ts';
import { type ClientDisconnect, headerOf, onTimeoutOrDisconnect } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Slot } from '../quota/quota-store.ts';
import type { WithSlot } from '../quota/rate-limit.ts';
import type { WithPayload } from '../read-body.ts';
import type { Routed } from '../routing/match-route.ts';
import type { AttemptResult, CircuitBreaker, WithUpstreamState } from './circuit-breaker.ts';
import type { TransportResult } from './transport.ts';

export const MAX_BUDGET = 10;
/** Retries that a gateway with little traffic has, where the share of its requests would allow none: as many as one request may use. */
export const MIN_BUDGET = 2;
export const MIN_BUDGET_AFTER_MS = 10_000;

/** RFC 9110 also calls PUT and DELETE idempotent, but in practice not every API treats them so. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD']);
/** An ingress answers with these while its application is away for a moment. A 500 comes from the application and would repeat. */
const TRANSIENT: ReadonlySet<number> = new Set([502, 503, 504]);
/** The first pause is 100 ms at most, the second 200 ms: a restart behind an ingress seldom takes less. */
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 1_000;

export interface RetryState {
  readonly rules: { readonly retries: { readonly max: number } };
  readonly breaker: CircuitBreaker;
  readonly retryBudget: RetryBudget;
}

/** `breaker_open`: nothing was sent, and the slot was refunded. */
export type RetryResult = TransportResult | { readonly kind: 'breaker_open'; readonly retryAfterMs: number };

/** Sends one attempt with this slot, within the rest of the upstream's timeout. */
type SendAttempt = (slot: Slot, timeoutMs: number) => Promise<TransportResult>;

interface RetryContext extends Routed, WithUpstreamState<RetryState>, WithPayload, WithSlot {
  readonly route: { readonly upstream: { readonly id: string; readonly timeoutMs: number }; readonly starts?: boolean };
}

/**
 * Sends a request, and sends it again while {@link isRetryable} allows it and there are retries, budget, a slot, time within the
 * upstream's timeout and a connected client. If one of these is missing, the latest failure is the result.
 */
export function createRetry(options: { readonly clock: Clock; readonly random: Random; readonly meter: Meter }) {
  const { clock, random, meter } = options;

  const sendOnce = async (
    context: RetryContext,
    slot: Slot,
    attempt: SendAttempt,
    timeoutMs: number,
  ): Promise<RetryResult> => {
    const { breaker } = context.upstreamState;
    const decision = breaker.allow(context.breakerRequest, clock.monotonic());
    if (decision.kind === 'rejected') {
      slot.refund();
      return { kind: 'breaker_open', retryAfterMs: decision.retryAfterMs };
    }
    let result: AttemptResult = 'ignored';
    try {
      const sent = await attempt(slot, timeoutMs);
      result = attemptResultOf(sent);
      return sent;
    } finally {
      // Also after an internal error: a probe without a report would keep the breaker half-open for ever.
      breaker.report(decision, context.breakerRequest, result, clock.monotonic());
    }
  };

  /** Null: there is no retry. */
  const slotForRetry = async (context: RetryContext, pauseMs: number): Promise<Slot | null> => {
    if (!(await pause(clock, pauseMs, context.disconnect))) return null;
    const { breaker, retryBudget } = context.upstreamState;
    const now = clock.monotonic();
    if (breaker.retryAfterMs(context.breakerRequest, now) !== null || !retryBudget.take(now)) return null;
    const decision = await context.quota.admitAgain();
    return decision.kind === 'admitted' ? decision.slot : null;
  };

  return async (context: RetryContext, firstSlot: Slot, attempt: SendAttempt): Promise<RetryResult> => {
    const { id, timeoutMs } = context.route.upstream;
    const { upstreamState } = context;
    const deadline = clock.monotonic() + timeoutMs;
    let result = await sendOnce(context, firstSlot, attempt, timeoutMs);
    upstreamState.retryBudget.deposit();
    for (let retries = 0; retries < upstreamState.rules.retries.max; retries += 1) {
      if (result.kind === 'breaker_open' || !isRetryable(context, result)) return result;
      const pauseMs = retryDelayMs(retries, result, random);
      if (clock.monotonic() + pauseMs >= deadline) return result;
      const slot = await slotForRetry(context, pauseMs);
      if (slot === null) return result;
      const remainingMs = deadline - clock.monotonic();
      if (remainingMs <= 0) {
        slot.refund();
        return result;
      }
      const next = await sendOnce(context, slot, attempt, remainingMs);
      // Another request's failure opened the breaker while this one waited for its slot.
      if (next.kind === 'breaker_open') return result;
      if (result.kind === 'response' && result.body instanceof Readable) result.body.destroy();
      meter.upstreamRetry(id, result.kind === 'response' ? String(result.status) : result.reason);
      result = next;
    }
    return result;
  };
}

/**
 * Whether a request may be sent again after this result: it is idempotent, or no byte of it was sent. A timeout has used up the time
 * for a retry; a failure of the caller's own body would repeat; a streamed body cannot be read twice.
 */
export function isRetryable(
  { method, payload, route }: WithPayload & { readonly method: string; readonly route: { readonly starts?: boolean } },
  sent: TransportResult,
): boolean {
  if (payload instanceof Readable) return false;
  // The GET of a webhook or callback starts a run like its POST.
  const idempotent = IDEMPOTENT.has(method) && route.starts !== true;
  if (sent.kind === 'response') return idempotent && TRANSIENT.has(sent.status);
  if (sent.reason !== 'unreachable' && sent.reason !== 'protocol') return false;
  return !sent.mayBeSent || idempotent;
}

/**
 * The pause before a retry in milliseconds. Full jitter, up to a bound that doubles, keeps requests that failed together from
 * returning together. The upstream may ask for more with Retry-After.
 *
 * @param retries retries of this request so far
 */
export function retryDelayMs(retries: number, sent: TransportResult, random: Random): number {
  const ownMs = random() * Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** retries);
  return Math.max(ownMs, sent.kind === 'response' ? requestedDelayMs(sent.headers) : 0);
}

/** Infinite for anything but seconds: a date depends on clocks that agree, and names a time too far off for a retry. */
function requestedDelayMs(headers: readonly string[]): number {
  const value = headerOf(headers, 'retry-after');
  if (value === undefined) return 0;
  return /^\d{1,6}$/.test(value.trim()) ? Number(value) * 1000 : Number.POSITIVE_INFINITY;
}

/** An upstream that answers 4xx or 429 is healthy, and so is one whose application answers 500. */
function attemptResultOf(sent: TransportResult): AttemptResult {
  if (sent.kind === 'response') return TRANSIENT.has(sent.status) ? 'failure' : 'success';
  return sent.reason === 'unreachable' || sent.reason === 'timeout' || sent.reason === 'protocol'
    ? 'failure'
    : 'ignored';
}

/** False: the client has disconnected. */
function pause(clock: Clock, ms: number, disconnect: ClientDisconnect): Promise<boolean> {
  if (disconnect.happened) return Promise.resolve(false);
  return new Promise((resolve) => {
    const cancel = onTimeoutOrDisconnect({ clock, ms, disconnect }, (why) => {
      cancel();
      resolve(why === 'timeout');
    });
  });
}

/**
 * A token bucket that requests fill: retries are a share of the requests. An upstream that fails every request gets that share more
 * load, where two retries for each request would triple it.
 */
export class RetryBudget {
  #share: number;
  #tokens = MIN_BUDGET;
  #emptyAt: MonotonicMs | null = null;

  constructor(percent: number) {
    this.#share = percent / 100;
  }

  configure(percent: number): void {
    this.#share = percent / 100;
  }

  /** Call it for the first attempt of each request. */
  deposit(): void {
    this.#tokens = Math.min(MAX_BUDGET, this.#tokens + this.#share);
  }

  take(now: MonotonicMs): boolean {
    if (this.#share === 0) return false;
    if (this.#emptyAt !== null && now - this.#emptyAt >= MIN_BUDGET_AFTER_MS) {
      this.#tokens = Math.max(MIN_BUDGET, this.#tokens);
      this.#emptyAt = null;
    }
    // Ten times 0.1 is a little less than 1.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens = Math.max(0, this.#tokens - 1);
    if (this.#tokens < 1 - 1e-9) this.#emptyAt = now;
    return true;
  }
}
