import type { Clock, Random } from '../clock.ts';
import type { Log } from '../ports.ts';
import { type BreakerRules, type BreakerState, CircuitBreaker } from './circuit-breaker.ts';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { RetryBudget } from './retry.ts';

export interface UpstreamRules {
  readonly retries: {
    readonly max: number;
    readonly budgetPercent: number;
  };
  readonly breaker: BreakerRules;
  readonly maxInFlight: number;
}

export interface UpstreamState {
  readonly id: string;
  readonly origin: string;
  rules: UpstreamRules;
  readonly breaker: CircuitBreaker;
  readonly retryBudget: RetryBudget;
  readonly concurrency: ConcurrencyLimit;
}

export interface UpstreamHealth {
  readonly breaker: BreakerState['kind'];
  readonly breakerTenant: string | null;
  readonly openForMs: number;
  readonly inFlight: number;
  readonly waiting: number;
}

export type Upstreams = ReturnType<typeof createUpstreams>;

export function createUpstreams(options: { readonly clock: Clock; readonly random: Random; readonly log: Log }) {
  const { clock, random, log } = options;
  let states: ReadonlyMap<string, UpstreamState> = new Map();
  /** States that requests of previous configurations may still use. */
  let replaced: readonly UpstreamState[] = [];
  let closed = false;

  const create = (id: string, origin: string, rules: UpstreamRules): UpstreamState => {
    const logState = (state: BreakerState): void => {
      if (state.kind === 'open') {
        const forMs = Math.round(state.until - clock.monotonic());
        const tenant = state.tenant !== null && { tenant: state.tenant };
        log.warn({ upstream: id, forMs, ...tenant }, 'circuit breaker opened');
      } else if (state.kind === 'closed') log.info({ upstream: id }, 'circuit breaker closed');
    };
    const state: UpstreamState = {
      ...{ id, origin, rules },
      breaker: new CircuitBreaker(rules.breaker, random, logState),
      retryBudget: new RetryBudget(rules.retries.budgetPercent),
      concurrency: new ConcurrencyLimit(rules.maxInFlight, clock),
    };
    if (closed) state.concurrency.close();
    return state;
  };

  return {
    /**
     * The states of these upstreams by id. New rules apply at once, also to requests in flight. The state of an upstream stays
     * unless its origin changes.
     */
    configure(
      upstreams: ReadonlyMap<string, UpstreamRules & { readonly origin: string }>,
    ): ReadonlyMap<string, UpstreamState> {
      const next = new Map<string, UpstreamState>();
      for (const [id, { origin, ...rules }] of upstreams) {
        const known = states.get(id);
        const state = known?.origin === origin ? known : create(id, origin, rules);
        state.rules = rules;
        state.breaker.configure(rules.breaker);
        state.retryBudget.configure(rules.retries.budgetPercent);
        state.concurrency.resize(rules.maxInFlight);
        next.set(id, state);
      }
      replaced = [...replaced, ...states.values()].filter(
        (each) => next.get(each.id) !== each && each.concurrency.inFlight + each.concurrency.waiting > 0,
      );
      states = next;
      return next;
    },
    statuses(): Record<string, UpstreamHealth> {
      const now = clock.monotonic();
      const statuses = [...states.values()].map(({ id, breaker, concurrency: { inFlight, waiting } }) => {
        const state = breaker.state(now);
        const breakerTenant = state.kind === 'closed' ? null : state.tenant;
        const openForMs = state.kind === 'open' ? Math.ceil(state.until - now) : 0;
        return [id, { breaker: state.kind, breakerTenant, openForMs, inFlight, waiting }] as const;
      });
      return Object.fromEntries(statuses);
    },
    /** Ends all waits for permits. */
    close(): void {
      closed = true;
      for (const { concurrency } of [...states.values(), ...replaced]) concurrency.close();
    },
  };
}
