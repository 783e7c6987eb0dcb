import type { Clock, MonotonicMs } from '../clock.ts';
import type { Log } from '../ports.ts';
import { type BreakerRules, type BreakerState, CircuitBreaker } from './circuit-breaker.ts';
import { ConcurrencyLimit } from './permits.ts';
import { RetryBudget } from './retry-budget.ts';

/** How much an upstream is asked, and how often again. */
export interface UpstreamRules {
  readonly retries: {
    /** Of one request. */
    readonly max: number;
    readonly budgetPercent: number;
  };
  readonly breaker: BreakerRules;
  readonly maxInFlight: number;
}

/** What this process knows of an upstream: it lives through every reload. */
export interface UpstreamState {
  readonly rules: UpstreamRules;
  readonly breaker: CircuitBreaker;
  readonly retryBudget: RetryBudget;
  readonly concurrency: ConcurrencyLimit;
}

export interface UpstreamHealth {
  readonly id: string;
  readonly breaker: BreakerState['kind'];
  /** Nothing is sent for this long; 0 unless the breaker is open. */
  readonly openForMs: number;
  readonly inFlight: number;
  readonly waiting: number;
}

export interface Upstreams {
  of(id: string): UpstreamState;
  /** New rules hold at once, also for what is under way; what was learned of a host stays, unless it is another host. */
  configure(upstreams: Configured): void;
  statuses(): UpstreamHealth[];
  /** Nobody waits any more. */
  close(): void;
}

type Configured = ReadonlyMap<string, UpstreamRules & { readonly origin: string }>;

interface Entry extends UpstreamState {
  rules: UpstreamRules;
  readonly origin: string;
}

export function createUpstreams(options: {
  readonly upstreams: Configured;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  readonly log: Log;
}): Upstreams {
  const { clock, random, log } = options;
  // Bounded by the configuration, and by the generations of it that requests still go by.
  let entries = new Map<string, Entry>();
  let closed = false;

  const create = (upstream: string, rules: UpstreamRules, origin: string): Entry => {
    const tell = (state: BreakerState): void => {
      if (state.kind === 'open') {
        const forMs = Math.round(state.until - clock.monotonic());
        log.warn({ upstream, forMs }, 'upstream keeps failing: nothing is sent to it for a while');
      } else if (state.kind === 'closed') log.info({ upstream }, 'upstream answers again');
    };
    const entry: Entry = {
      rules,
      origin,
      breaker: new CircuitBreaker(rules.breaker, random, tell),
      retryBudget: new RetryBudget(rules.retries.budgetPercent),
      concurrency: new ConcurrencyLimit(rules.maxInFlight, clock),
    };
    if (closed) entry.concurrency.close();
    return entry;
  };

  const configure = (upstreams: Configured): void => {
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
    // One that is not configured any more, as long as requests go there that a reload has overtaken.
    for (const [id, entry] of entries) {
      if (!next.has(id) && entry.concurrency.inUse + entry.concurrency.waiting > 0) next.set(id, entry);
    }
    entries = next;
  };
  configure(options.upstreams);

  return {
    of(id) {
      let entry = entries.get(id);
      if (entry === undefined) {
        entry = create(id, OVERTAKEN, '');
        entries.set(id, entry);
      }
      return entry;
    },
    configure,
    statuses: () => {
      const now: MonotonicMs = clock.monotonic();
      return [...entries].map(([id, { breaker, concurrency: places }]) => {
        const state = breaker.state(now);
        const openForMs = state.kind === 'open' ? Math.ceil(state.until - now) : 0;
        return { id, breaker: state.kind, openForMs, inFlight: places.inUse, waiting: places.waiting };
      });
    },
    close() {
      closed = true;
      for (const { concurrency: places } of entries.values()) places.close();
    },
  };
}

/** For a request whose upstream a reload has taken away: it is sent once, and says nothing of an upstream to come. */
const OVERTAKEN: UpstreamRules = {
  retries: { max: 0, budgetPercent: 0 },
  breaker: { enabled: false, failurePercent: 100, minRequests: 1, windowMs: 1_000, openMs: 1_000, maxOpenMs: 1_000 },
  maxInFlight: Number.POSITIVE_INFINITY,
};
