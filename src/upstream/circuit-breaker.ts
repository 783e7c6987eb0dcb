import type { Clock, MonotonicMs } from '../clock.ts';
import { type Middleware, type Rejection, reject, type WithWaitTerms } from '../context.ts';
import { retryAfterSeconds } from '../quota/rate-limit.ts';
import type { Routed } from '../routing/match-route.ts';
import { type CredentialPool, rejectUnavailable } from './credentials/pool.ts';

export interface BreakerRules {
  readonly enabled: boolean;
  /** The breaker opens when this share of the attempts in the window has failed. */
  readonly failurePercent: number;
  /** With fewer attempts in the window the breaker stays closed. */
  readonly minRequests: number;
  readonly windowMs: number;
  /** The first open period. Each further one without a recovery is twice as long, up to `maxOpenMs`. */
  readonly openMs: number;
  readonly maxOpenMs: number;
}

export type BreakerState =
  | { readonly kind: 'closed' }
  | { readonly kind: 'open'; readonly until: MonotonicMs }
  | { readonly kind: 'half-open'; readonly since: MonotonicMs; readonly inFlight: number; readonly successes: number };

/** The cost of a failed probe. A write may have been carried out, so reads probe first; a `background` request is never a probe. */
export type Risk = 'read' | 'write' | 'background';

/** `ignored`: the attempt shows nothing about the upstream, because the caller disconnected or its body broke off. */
export type AttemptResult = 'success' | 'failure' | 'ignored';

export type BreakerDecision =
  /** The period makes the breaker ignore results of attempts that were sent before its latest change of state. */
  { readonly kind: 'allowed'; readonly period: number } | { readonly kind: 'rejected'; readonly retryAfterMs: number };

/** Probes in flight at a time, and successes that close the breaker: a single success could be luck. */
export const PROBES = 2;
/** Retry-After while the probes are in flight. Most responses arrive sooner. */
const PROBE_RETRY_AFTER_MS = 1_000;
/** Each open period is shortened by up to this share at random, so that replicas do not probe at the same moment. */
const JITTER = 0.25;

interface BreakerContext extends Routed, WithWaitTerms {
  readonly route: { readonly upstream: { readonly id: string; readonly account: string } };
}

/**
 * Rejects requests to a failing upstream, and those of an account whose credentials are all rejected, before their body is read and
 * before they wait for a slot. It does not count a probe: a probe that then waits for a slot would delay the recovery. The attempt
 * itself asks the breaker again ({@link CircuitBreaker.allow}).
 */
export function circuitBreaker<E extends BreakerContext>(options: {
  readonly upstreams: { of(id: string): { readonly breaker: CircuitBreaker } };
  /** By account. */
  readonly credentials: ReadonlyMap<string, Pick<CredentialPool, 'backoff'>>;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}): Middleware<E, E> {
  const { upstreams, credentials, clock, random } = options;
  return (next) => async (context) => {
    const { id, account } = context.route.upstream;
    const { breaker } = upstreams.of(id);
    const retryAfterMs = breaker.retryAfterMs(riskOf(context), clock.monotonic());
    if (retryAfterMs !== null) return rejectBreakerOpen(retryAfterMs, random);
    const unavailable = credentials.get(account)?.backoff() ?? null;
    return unavailable === null ? next(context) : rejectUnavailable(unavailable);
  };
}

export function riskOf({ method, waitTerms }: WithWaitTerms & { readonly method: string }): Risk {
  if (waitTerms.background) return 'background';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}

export function rejectBreakerOpen(retryAfterMs: number, random: () => number): Rejection {
  return reject('breaker_open', { retryAfterSeconds: retryAfterSeconds(retryAfterMs, random) });
}

/** The breaker of one upstream: a state machine on the times it is given. Every allowed attempt must be reported exactly once. */
export class CircuitBreaker {
  #rules: BreakerRules;
  readonly #random: () => number;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = { kind: 'closed' };
  #window: FailureWindow;
  /** Open periods in a row without a closed window between them. */
  #openings = 0;
  #closedAt = Number.NEGATIVE_INFINITY;
  /** Shared by all attempts of a period, so that an attempt allocates nothing. */
  #allowed: Extract<BreakerDecision, { kind: 'allowed' }> = { kind: 'allowed', period: 0 };

  /** @param random 0 ≤ x < 1 */
  constructor(rules: BreakerRules, random: () => number, onChange: (state: BreakerState) => void = () => {}) {
    this.#rules = rules;
    this.#random = random;
    this.#onChange = onChange;
    this.#window = new FailureWindow(rules.windowMs);
  }

  /** Applies new rules from now on. Counted attempts stay unless the window has another length. */
  configure(rules: BreakerRules): void {
    if (rules.windowMs !== this.#rules.windowMs) this.#window = new FailureWindow(rules.windowMs);
    this.#rules = rules;
    if (!rules.enabled) this.#close(Number.NEGATIVE_INFINITY);
  }

  state(now: MonotonicMs): BreakerState {
    if (this.#state.kind === 'open' && now >= this.#state.until)
      this.#enter({ kind: 'half-open', since: now, inFlight: 0, successes: 0 });
    return this.#state;
  }

  /** Null: a request would be allowed. Otherwise milliseconds until another try makes sense. Changes nothing. */
  retryAfterMs(risk: Risk, now: MonotonicMs): number | null {
    const state = this.state(now);
    if (state.kind === 'closed') return null;
    if (state.kind === 'open') return state.until - now;
    if (risk === 'background' || state.inFlight >= PROBES) return PROBE_RETRY_AFTER_MS;
    // Where callers only write, a write has to be the probe, or the breaker would never close.
    const writesFrom = state.since + this.#rules.openMs;
    return risk === 'write' && now < writesFrom ? writesFrom - now : null;
  }

  /** Decides at the moment of sending, and counts a probe while half-open. */
  allow(risk: Risk, now: MonotonicMs): BreakerDecision {
    const retryAfterMs = this.retryAfterMs(risk, now);
    if (retryAfterMs !== null) return { kind: 'rejected', retryAfterMs };
    const state = this.#state;
    if (state.kind === 'half-open') this.#state = { ...state, inFlight: state.inFlight + 1 };
    return this.#allowed;
  }

  report({ period }: Extract<BreakerDecision, { kind: 'allowed' }>, result: AttemptResult, now: MonotonicMs): void {
    if (period !== this.#allowed.period || !this.#rules.enabled) return;
    const state = this.#state;
    if (state.kind === 'half-open') this.#probeEnded(state, result, now);
    else if (state.kind === 'closed' && result !== 'ignored') this.#count(result === 'failure', now);
  }

  #probeEnded(state: Extract<BreakerState, { kind: 'half-open' }>, result: AttemptResult, now: MonotonicMs): void {
    if (result === 'failure') {
      this.#open(now);
      return;
    }
    const successes = state.successes + (result === 'success' ? 1 : 0);
    if (successes >= PROBES) this.#close(now);
    else this.#state = { ...state, inFlight: state.inFlight - 1, successes };
  }

  #count(failed: boolean, now: MonotonicMs): void {
    this.#window.add(failed, now);
    if (!failed) return;
    const { total, failures } = this.#window.read(now);
    const { minRequests, failurePercent, windowMs } = this.#rules;
    if (total < minRequests || failures * 100 < total * failurePercent) return;
    // A breaker that opens again within a window continues with the doubled open period.
    if (now - this.#closedAt > windowMs) this.#openings = 0;
    this.#open(now);
  }

  #open(now: MonotonicMs): void {
    const { openMs, maxOpenMs } = this.#rules;
    const periodMs = Math.min(maxOpenMs, openMs * 2 ** Math.min(this.#openings, 30));
    this.#openings += 1;
    this.#enter({ kind: 'open', until: (now + periodMs * (1 - JITTER * this.#random())) as MonotonicMs });
  }

  #close(now: number): void {
    this.#window.clear();
    this.#closedAt = now;
    if (this.#state.kind !== 'closed') this.#enter({ kind: 'closed' });
  }

  #enter(state: BreakerState): void {
    this.#state = state;
    this.#allowed = { kind: 'allowed', period: this.#allowed.period + 1 };
    this.#onChange(state);
  }
}

/** Buckets of a window. An attempt leaves the count up to a tenth of the window early. */
const BUCKETS = 10;

/** Counts attempts and failures in a sliding window, in constant memory. */
class FailureWindow {
  readonly #bucketMs: number;
  readonly #totals = new Array<number>(BUCKETS).fill(0);
  readonly #failures = new Array<number>(BUCKETS).fill(0);
  /** Number of the current bucket, counted from zero of the clock. */
  #current = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / BUCKETS;
  }

  add(failed: boolean, now: MonotonicMs): void {
    const index = this.#moveTo(now) % BUCKETS;
    this.#totals[index] = (this.#totals[index] as number) + 1;
    if (failed) this.#failures[index] = (this.#failures[index] as number) + 1;
  }

  read(now: MonotonicMs): { readonly total: number; readonly failures: number } {
    this.#moveTo(now);
    return { total: this.#totals.reduce(sum, 0), failures: this.#failures.reduce(sum, 0) };
  }

  clear(): void {
    this.#totals.fill(0);
    this.#failures.fill(0);
  }

  /** Empties the buckets that have left the window. */
  #moveTo(now: MonotonicMs): number {
    const bucket = Math.floor(now / this.#bucketMs);
    if (bucket <= this.#current) return this.#current;
    if (bucket - this.#current >= BUCKETS) this.clear();
    else {
      for (let each = this.#current + 1; each <= bucket; each += 1) {
        this.#totals[each % BUCKETS] = 0;
        this.#failures[each % BUCKETS] = 0;
      }
    }
    this.#current = bucket;
    return bucket;
  }
}

const sum = (a: number, b: number): number => a + b;
