import type { Authenticated } from '../auth/authenticate.ts';
import type { Authorised } from '../auth/authorise.ts';
import type { Clock, MonotonicMs, Random } from '../clock.ts';
import { extend, type Middleware, type Rejection, reject, type WithWaitTerms } from '../context.ts';
import { retryAfterSeconds } from '../quota/rate-limit.ts';
import type { Routed } from '../routing/match-route.ts';
import { resourceOf } from '../routing/pattern.ts';
import { type CredentialChoice, type CredentialPool, rejectUnavailable } from './credentials/pool.ts';
import { type Attempt, type FailureRules, MAX_ATTEMPTS, type Source, tenantsOfOutage } from './failure-window.ts';

export interface BreakerRules extends FailureRules {
  readonly enabled: boolean;
  readonly windowMs: number;
  /** The first open period. Each further one without a recovery is twice as long, up to `maxOpenMs`. */
  readonly openMs: number;
  readonly maxOpenMs: number;
}

/** `tenant`: the only one with failures, and so the only one for which the breaker is not closed; null: it is for all. */
export type BreakerState =
  | { readonly kind: 'closed' }
  | { readonly kind: 'open'; readonly tenant: string | null; readonly until: MonotonicMs }
  | { readonly kind: 'half-open'; readonly tenant: string | null; readonly since: MonotonicMs };

/** The cost of a failed probe. A write may have been carried out, so reads probe first; a `background` request is never a probe. */
export type Risk = 'read' | 'write' | 'background';

interface BreakerRequest extends Source {
  readonly risk: Risk;
}

export interface WithUpstreamState<State> {
  readonly upstreamState: State;
  readonly breakerRequest: BreakerRequest;
}

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

interface BreakerContext extends Routed, Authenticated, Authorised, WithWaitTerms {}

/**
 * Rejects requests to a failing upstream, and those of an account whose credentials are all rejected, before their body is read and
 * before they wait for a slot. It does not count a probe: a probe that then waits for a slot would delay the recovery. The attempt
 * itself asks the breaker again ({@link CircuitBreaker.allow}).
 */
export function circuitBreaker<E extends BreakerContext, State extends { readonly breaker: CircuitBreaker }>(options: {
  readonly upstreamStates: ReadonlyMap<string, State>;
  readonly credentials: { of(route: CredentialChoice): Pick<CredentialPool, 'backoff'> };
  readonly clock: Clock;
  readonly random: Random;
}): Middleware<E, E & WithUpstreamState<State>> {
  const { upstreamStates, credentials, clock, random } = options;
  return (next) => async (context) => {
    const { id } = context.route.upstream;
    const upstreamState = upstreamStates.get(id);
    if (upstreamState === undefined) throw new Error(`no upstream ${id}`);
    const breakerRequest = {
      risk: riskOf(context),
      tenant: context.tenant.id,
      resource: resourceOf(context.route.match, context.segments),
    };
    const retryAfterMs = upstreamState.breaker.retryAfterMs(breakerRequest, clock.monotonic());
    if (retryAfterMs !== null) return rejectBreakerOpen(retryAfterMs, random);
    const unavailable = credentials.of(context.route).backoff();
    if (unavailable !== null) return rejectUnavailable(unavailable);
    return next(extend(context, { upstreamState, breakerRequest }));
  };
}

function riskOf({ method, waitTerms }: WithWaitTerms & { readonly method: string }): Risk {
  if (waitTerms.background) return 'background';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}

export function rejectBreakerOpen(retryAfterMs: number, random: Random): Rejection {
  return reject('breaker_open', { retryAfterSeconds: retryAfterSeconds(retryAfterMs, random) });
}

/** The breaker of one upstream: a state machine on the times it is given. Every allowed attempt must be reported exactly once. */
export class CircuitBreaker {
  #rules: BreakerRules;
  readonly #random: Random;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = { kind: 'closed' };
  /** The latest, oldest first. Those before the window are dropped when it is read. */
  #attempts: Attempt[] = [];
  /** Probes in flight, and those that succeeded, since the breaker is half-open. */
  #probes = 0;
  #successes = 0;
  /** Open periods in a row without a closed window between them. */
  #openings = 0;
  #closedAt = Number.NEGATIVE_INFINITY;
  /** Tenants with failures since the breaker was closed. Tenants are configured, so the set is bounded. */
  #causes: ReadonlySet<string> = new Set();
  /** A tenant without failures was rejected in this open period, so it probes first. */
  #othersWait = false;
  #period = 0;

  constructor(rules: BreakerRules, random: Random, onChange: (state: BreakerState) => void = () => {}) {
    this.#rules = rules;
    this.#random = random;
    this.#onChange = onChange;
  }

  /** Applies new rules from now on, also to attempts that were counted before. */
  configure(rules: BreakerRules): void {
    this.#rules = rules;
    if (rules.enabled) return;
    this.#attempts = [];
    this.#close(Number.NEGATIVE_INFINITY);
  }

  state(now: MonotonicMs): BreakerState {
    const state = this.#state;
    if (state.kind === 'open' && now >= state.until)
      this.#enter({ kind: 'half-open', tenant: state.tenant, since: now });
    return this.#state;
  }

  /** Null: a request would be allowed. Otherwise milliseconds until another try makes sense. */
  retryAfterMs(request: BreakerRequest, now: MonotonicMs): number | null {
    const state = this.state(now);
    if (state.kind === 'closed' || isExempt(state, request)) return null;
    const waitMs = this.#waitMs(state, request, now);
    if (waitMs !== null && request.risk !== 'background' && !this.#causes.has(request.tenant)) this.#othersWait = true;
    return waitMs;
  }

  /** Decides at the moment of sending, and counts a probe while half-open. */
  allow(request: BreakerRequest, now: MonotonicMs): BreakerDecision {
    const retryAfterMs = this.retryAfterMs(request, now);
    if (retryAfterMs !== null) return { kind: 'rejected', retryAfterMs };
    const state = this.#state;
    if (state.kind === 'half-open' && !isExempt(state, request)) this.#probes += 1;
    return { kind: 'allowed', period: this.#period };
  }

  /** @param request the same as for {@link allow} */
  report(
    { period }: { readonly period: number },
    request: BreakerRequest,
    result: AttemptResult,
    now: MonotonicMs,
  ): void {
    if (period !== this.#period || !this.#rules.enabled) return;
    const state = this.#state;
    if (result !== 'ignored') {
      const { tenant, resource } = request;
      if (this.#attempts.length === MAX_ATTEMPTS) this.#attempts.shift();
      this.#attempts.push({ tenant, resource, failed: result === 'failure', at: now });
    }
    if (state.kind === 'half-open' && !isExempt(state, request))
      this.#probeEnded(state.tenant, request.tenant, result, now);
    else if (result === 'failure') this.#failed(now);
    // The upstream works for another tenant.
    else if (result === 'success' && state.kind !== 'closed' && this.#tenantsOfOutage(now) === null) this.#close(now);
  }

  #waitMs(state: Exclude<BreakerState, { kind: 'closed' }>, request: BreakerRequest, now: MonotonicMs): number | null {
    if (state.kind === 'open') return state.until - now;
    if (request.risk === 'background' || this.#probes >= PROBES) return PROBE_RETRY_AFTER_MS;
    // Where no other request comes, these have to probe, or the breaker would never close.
    const isLast = request.risk === 'write' || (this.#othersWait && this.#causes.has(request.tenant));
    const lastFrom = state.since + this.#rules.openMs;
    return isLast && now < lastFrom ? lastFrom - now : null;
  }

  #probeEnded(openFor: string | null, tenant: string, result: AttemptResult, now: MonotonicMs): void {
    this.#probes -= 1;
    if (result === 'success') this.#successes += 1;
    if (result === 'failure') this.#open(openFor, new Set([...this.#causes, tenant]), now);
    else if (this.#successes >= PROBES) this.#close(now);
  }

  /** A failure that was no probe: the breaker is closed, at least for this tenant. */
  #failed(now: MonotonicMs): void {
    const causes = this.#tenantsOfOutage(now);
    if (causes === null) return;
    // A breaker that opens again within a window continues with the doubled open period.
    if (this.#state.kind === 'closed' && now - this.#closedAt > this.#rules.windowMs) this.#openings = 0;
    const [first = null, ...more] = causes;
    this.#open(more.length > 0 ? null : first, causes, now);
  }

  #tenantsOfOutage(now: MonotonicMs): ReadonlySet<string> | null {
    this.#attempts = this.#attempts.filter(({ at }) => at > now - this.#rules.windowMs);
    return tenantsOfOutage(this.#attempts, this.#rules);
  }

  #open(tenant: string | null, causes: ReadonlySet<string>, now: MonotonicMs): void {
    const { openMs, maxOpenMs } = this.#rules;
    const periodMs = Math.min(maxOpenMs, openMs * 2 ** Math.min(this.#openings, 30));
    this.#openings += 1;
    this.#causes = causes;
    this.#othersWait = false;
    this.#enter({ kind: 'open', tenant, until: (now + periodMs * (1 - JITTER * this.#random())) as MonotonicMs });
  }

  /** Successes stay counted: they show for which tenants the upstream works. */
  #close(now: number): void {
    this.#attempts = this.#attempts.filter(({ failed }) => !failed);
    this.#closedAt = now;
    if (this.#state.kind !== 'closed') this.#enter({ kind: 'closed' });
  }

  #enter(state: BreakerState): void {
    this.#state = state;
    this.#period += 1;
    this.#probes = 0;
    this.#successes = 0;
    this.#onChange(state);
  }
}

function isExempt(state: BreakerState, { tenant }: BreakerRequest): boolean {
  return state.kind !== 'closed' && state.tenant !== null && state.tenant !== tenant;
}
