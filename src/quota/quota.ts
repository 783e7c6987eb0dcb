import type { Clock, MonotonicMs } from '../clock.ts';
import { extend, type Outcome, type Received, type Refusal, refuse, type Stage } from '../exchange.ts';
import type { Meter } from '../observe.ts';
import type { ProblemCode } from '../problem.ts';
import type { Decision, Ledger, RefusedBy, Slot } from './ledger.ts';

/** What a request has that may be sent: a paid slot, and a way to pay for another attempt. */
export interface Admitted {
  readonly slot: Slot;
  readonly admitAgain: () => Decision | Promise<Decision>;
}

interface OfTenant extends Received {
  readonly tenant: { readonly id: string; readonly account: string };
}

export interface QuotaOptions {
  readonly ledger: Ledger;
  readonly meter: Meter;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  /** How long after a request was given up it may still arrive. */
  readonly lateArrivalMs: number;
}

const CODES: Readonly<Record<RefusedBy, ProblemCode>> = {
  tenant: 'tenant_quota',
  account: 'account_quota',
  hold: 'upstream_cooldown',
};

/** A share of the wait, and no more than this, is added by chance, so that the refused do not return together. */
const SPREAD = 0.25;
const LARGEST_SPREAD_MS = 5_000;

/** Pays for a request at the moment of sending, or refuses it. Whatever happens further in, the slot is ended. */
export function limitByQuota<E extends OfTenant>(options: QuotaOptions): Stage<E, E & Admitted> {
  const { ledger, meter, clock } = options;

  return (next) => {
    const goOn = (exchange: E, decision: Decision): Outcome | Promise<Outcome> => {
      const { tenant } = exchange;
      meter.quotaDecision(tenant.account, tenant.id, decision.kind === 'admitted' ? 'admitted' : decision.by);
      if (decision.kind === 'refused') return refuseQuota(decision, options.random);
      // Every slot this request is given ends with it: one that nobody ended would be held for ever.
      const slots = [decision.slot];
      const admitAgain = (): Decision | Promise<Decision> => {
        const again = ledger.admit({ account: tenant.account, tenant: tenant.id });
        const note = (decided: Decision): Decision => {
          if (decided.kind === 'admitted') slots.push(decided.slot);
          meter.quotaDecision(tenant.account, tenant.id, decided.kind === 'admitted' ? 'admitted' : decided.by);
          return decided;
        };
        return again instanceof Promise ? again.then(note) : note(again);
      };
      return ended(() => next(extend(exchange, { slot: decision.slot, admitAgain })), slots);
    };

    return (exchange) => {
      const decision = ledger.admit({ account: exchange.tenant.account, tenant: exchange.tenant.id });
      return decision instanceof Promise ? decision.then((later) => goOn(exchange, later)) : goOn(exchange, decision);
    };
  };

  function ended(run: () => Outcome | Promise<Outcome>, slots: readonly Slot[]): Outcome | Promise<Outcome> {
    const end = (): void => {
      const latest = (clock.monotonic() + options.lateArrivalMs) as MonotonicMs;
      for (const slot of slots) slot.lose(latest);
    };
    let outcome: Outcome | Promise<Outcome>;
    try {
      outcome = run();
    } catch (error) {
      end();
      throw error;
    }
    if (outcome instanceof Promise) return outcome.finally(end);
    end();
    return outcome;
  }
}

export function refuseQuota(decision: Extract<Decision, { kind: 'refused' }>, random: () => number): Refusal {
  return refuse(CODES[decision.by], { retryAfterSeconds: retryAfterSeconds(decision.retryAfterMs, random) });
}

/** Whole seconds, never earlier than the true time, spread a little. */
export function retryAfterSeconds(waitMs: number, random: () => number): number {
  const spreadMs = random() * Math.min(waitMs * SPREAD, LARGEST_SPREAD_MS);
  return Math.max(1, Math.ceil((waitMs + spreadMs) / 1000));
}
