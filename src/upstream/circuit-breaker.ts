import type { MonotonicMs } from '../clock.ts';
import { SlidingCounts } from './sliding-counts.ts';

/** When an upstream counts as broken, and for how long it is left alone. */
export interface BreakerRules {
  readonly enabled: boolean;
  /** It opens when this share of the attempts in the window has failed. */
  readonly failurePercent: number;
  /** Fewer attempts in the window say nothing. */
  readonly minRequests: number;
  readonly windowMs: number;
  /** The first pause; each that follows without a recovery is twice as long. */
  readonly openMs: number;
  readonly maxOpenMs: number;
}

export type BreakerState =
  | { readonly kind: 'closed' }
  | { readonly kind: 'open'; readonly until: MonotonicMs }
  | { readonly kind: 'half-open'; readonly since: MonotonicMs; readonly underWay: number; readonly good: number };

/**
 * What is at stake when it fails. A read as a probe costs its caller nothing; a write may have been carried out and nobody
 * knows; and nobody waits for what happens in the background.
 */
export type Risk = 'read' | 'write' | 'background';

/** `void`: it says nothing of the upstream (the caller left, or its body broke off). */
export type AttemptResult = 'good' | 'failed' | 'void';

export type BreakerDecision =
  /** Belongs to one period of the breaker: what was sent before it opened says nothing of what it is closed by. */
  { readonly kind: 'passed'; readonly period: number } | { readonly kind: 'refused'; readonly retryAfterMs: number };

/** Under way at a time; and as many good ones in a row close it. One alone could be luck. */
export const PROBES = 2;
/** While the probes are under way nobody knows how long it takes: most are answered sooner. */
const PROBED_MS = 1_000;
/** A pause is cut short by up to this share by chance, or all replicas would probe in the same moment. */
const JITTER = 0.25;

/**
 * A circuit breaker, as a state machine on an injected clock. Every passage that was taken is reported once; that is all it
 * asks of its user.
 */
export class CircuitBreaker {
  #rules: BreakerRules;
  readonly #random: () => number;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = { kind: 'closed' };
  #counts: SlidingCounts;
  /** How often it has opened without staying closed for a window in between. */
  #openings = 0;
  #closedAt = Number.NEGATIVE_INFINITY;
  /** Handed out to all of a period: a request costs no allocation. */
  #passage: Extract<BreakerDecision, { kind: 'passed' }> = { kind: 'passed', period: 0 };

  constructor(rules: BreakerRules, random: () => number, onChange: (state: BreakerState) => void = () => {}) {
    this.#rules = rules;
    this.#random = random;
    this.#onChange = onChange;
    this.#counts = new SlidingCounts(rules.windowMs);
  }

  /** New rules hold from now on; what was seen stays, unless the window is another. */
  configure(rules: BreakerRules): void {
    if (rules.windowMs !== this.#rules.windowMs) this.#counts = new SlidingCounts(rules.windowMs);
    this.#rules = rules;
    if (!rules.enabled) this.#close(Number.NEGATIVE_INFINITY);
  }

  state(now: MonotonicMs): BreakerState {
    if (this.#state.kind === 'open' && now >= this.#state.until)
      this.#enter({ kind: 'half-open', since: now, underWay: 0, good: 0 });
    return this.#state;
  }

  /** Milliseconds after which asking again makes sense, or null: it would be let through. Takes nothing. */
  retryAfterMs(stake: Risk, now: MonotonicMs): number | null {
    if (this.#state.kind === 'closed') return null;
    const state = this.state(now);
    if (state.kind === 'open') return state.until - now;
    if (state.kind === 'closed') return null;
    if (stake === 'background' || state.underWay >= PROBES) return PROBED_MS;
    // Where nothing is ever read, a write has to be the probe, or it would stay open for ever.
    const writesFrom = state.since + this.#rules.openMs;
    return stake === 'write' && now < writesFrom ? writesFrom - now : null;
  }

  /** At the moment of sending. */
  pass(stake: Risk, now: MonotonicMs): BreakerDecision {
    const retryAfterMs = this.retryAfterMs(stake, now);
    if (retryAfterMs !== null) return { kind: 'refused', retryAfterMs };
    const state = this.#state;
    if (state.kind === 'half-open') this.#state = { ...state, underWay: state.underWay + 1 };
    return this.#passage;
  }

  report({ period }: Extract<BreakerDecision, { kind: 'passed' }>, verdict: AttemptResult, now: MonotonicMs): void {
    if (period !== this.#passage.period || !this.#rules.enabled) return;
    const state = this.#state;
    if (state.kind === 'half-open') this.#probed(state, verdict, now);
    else if (state.kind === 'closed' && verdict !== 'void') this.#count(verdict === 'failed', now);
  }

  #probed(state: Extract<BreakerState, { kind: 'half-open' }>, verdict: AttemptResult, now: MonotonicMs): void {
    if (verdict === 'failed') {
      this.#open(now);
      return;
    }
    const good = state.good + (verdict === 'good' ? 1 : 0);
    if (good >= PROBES) this.#close(now);
    else this.#state = { ...state, underWay: state.underWay - 1, good };
  }

  #count(failed: boolean, now: MonotonicMs): void {
    this.#counts.add(failed, now);
    if (!failed) return;
    const { total, failures } = this.#counts.read(now);
    const { minRequests: minimum, failurePercent, windowMs } = this.#rules;
    if (total < minimum || failures * 100 < total * failurePercent) return;
    // Closed by luck and open again at once: it goes on where it was.
    if (now - this.#closedAt > windowMs) this.#openings = 0;
    this.#open(now);
  }

  #open(now: MonotonicMs): void {
    const { openMs, maxOpenMs: longestMs } = this.#rules;
    const pauseMs = Math.min(longestMs, openMs * 2 ** Math.min(this.#openings, 30));
    this.#openings += 1;
    this.#enter({ kind: 'open', until: (now + pauseMs * (1 - JITTER * this.#random())) as MonotonicMs });
  }

  #close(now: number): void {
    this.#counts.clear();
    this.#closedAt = now;
    if (this.#state.kind !== 'closed') this.#enter({ kind: 'closed' });
  }

  #enter(state: BreakerState): void {
    this.#state = state;
    this.#passage = { kind: 'passed', period: this.#passage.period + 1 };
    this.#onChange(state);
  }
}
