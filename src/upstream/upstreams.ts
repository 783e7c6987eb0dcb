import type { Clock } from '../clock.ts';
import type { Log } from '../ports.ts';
import { type BreakerRules, type BreakerState, CircuitBreaker } from './circuit-breaker.ts';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { RetryBudget } from './retry.ts';

/** The limits of one upstream, from the configuration. */
export interface UpstreamRules {
  readonly retries: {
    /** Retries of one request. */
    readonly max: number;
    readonly budgetPercent: number;
  };
  readonly breaker: BreakerRules;
  readonly maxInFlight: number;
}

/** The state of one upstream in this process. A reload keeps it. */
export interface UpstreamState {
  readonly rules: UpstreamRules;
  readonly breaker: CircuitBreaker;
  readonly retryBudget: RetryBudget;
  readonly concurrency: ConcurrencyLimit;
}

export interface UpstreamHealth {
  readonly id: string;
  readonly breaker: BreakerState['kind'];
  /** The only tenant for which the breaker is not closed; null: it is for all. */
  readonly breakerTenant: string | null;
  /** The rest of the open period; 0 unless the breaker is open. */
  readonly openForMs: number;
  readonly inFlight: number;
  readonly waiting: number;
}

export interface Upstreams {
  of(id: string): UpstreamState;
  /** Applies new rules at once, also to requests in flight. The state of an upstream stays unless its origin changes. */
  configure(upstreams: ConfiguredUpstreams): void;
  statuses(): UpstreamHealth[];
  /** Ends all waits for permits. */
  close(): void;
}

type ConfiguredUpstreams = ReadonlyMap<string, UpstreamRules & { readonly origin: string }>;

interface Entry extends UpstreamState {
  rules: UpstreamRules;
  readonly origin: string;
}

export function createUpstreams(options: {
  readonly upstreams: ConfiguredUpstreams;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  readonly log: Log;
}): Upstreams {
  const { clock, random, log } = options;
  // Bounded by the configurations that requests in flight still use.
  let entries = new Map<string, Entry>();
  let closed = false;

  const create = (upstream: string, rules: UpstreamRules, origin: string): Entry => {
    const logState = (state: BreakerState): void => {
      if (state.kind === 'open') {
        const forMs = Math.round(state.until - clock.monotonic());
        log.warn({ upstream, forMs, ...(state.tenant !== null && { tenant: state.tenant }) }, 'circuit breaker opened');
      } else if (state.kind === 'closed') log.info({ upstream }, 'circuit breaker closed');
    };
    const entry: Entry = {
      rules,
      origin,
      breaker: new CircuitBreaker(rules.breaker, random, logState),
      retryBudget: new RetryBudget(rules.retries.budgetPercent),
      concurrency: new ConcurrencyLimit(rules.maxInFlight, clock),
    };
    if (closed) entry.concurrency.close();
    return entry;
  };

  const configure = (upstreams: ConfiguredUpstreams): void => {
    const next = new Map<string, Entry>();
    for (const [id, rules] of upstreams) {
      const known = entries.get(id);
      if (known === undefined || known.origin !== rules.origin) {
        next.set(id, create(id, rules, rules.origin));
        continue;
      }
      known.rules = rules;
      known.breaker.configure(rules.breaker);
      known.retryBudget.configure(rules.retries.budgetPercent);
      known.concurrency.resize(rules.maxInFlight);
      next.set(id, known);
    }
    // A removed upstream stays while requests of the previous configuration use it.
    for (const [id, entry] of entries) {
      if (!next.has(id) && entry.concurrency.inFlight + entry.concurrency.waiting > 0) next.set(id, entry);
    }
    entries = next;
  };
  configure(options.upstreams);

  return {
    of(id) {
      let entry = entries.get(id);
      if (entry === undefined) {
        entry = create(id, REMOVED_UPSTREAM, '');
        entries.set(id, entry);
      }
      return entry;
    },
    configure,
    statuses: () => {
      const now = clock.monotonic();
      return [...entries].map(([id, { breaker, concurrency }]) => {
        const state = breaker.state(now);
        const openForMs = state.kind === 'open' ? Math.ceil(state.until - now) : 0;
        return {
          id,
          breaker: state.kind,
          breakerTenant: state.kind === 'closed' ? null : state.tenant,
          openForMs,
          inFlight: concurrency.inFlight,
          waiting: concurrency.waiting,
        };
      });
    },
    close() {
      closed = true;
      for (const { concurrency } of entries.values()) concurrency.close();
    },
  };
}

/** For a late request to an upstream that a reload has removed: it is sent once, and its result counts for no other upstream. */
const REMOVED_UPSTREAM: UpstreamRules = {
  retries: { max: 0, budgetPercent: 0 },
  breaker: { enabled: false, failurePercent: 100, minRequests: 1, windowMs: 1_000, openMs: 1_000, maxOpenMs: 1_000 },
  maxInFlight: Number.POSITIVE_INFINITY,
};
