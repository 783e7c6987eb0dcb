import type { Clock, MonotonicMs } from '../clock.ts';
import {
  afterwards,
  extend,
  type OnTerms,
  type Outcome,
  type Received,
  type Refusal,
  refuse,
  type Stage,
} from '../exchange.ts';
import { type Meter, timed } from '../observe.ts';
import type { ProblemCode } from '../problem.ts';
import type { Decision, Ledger, RefusedBy, Slot } from './ledger.ts';
import { preferredWaitMs } from './prefer.ts';
import type { Visit, WaitingRoom } from './waiting.ts';

/** What a request has that may be sent: a paid slot, and a way to pay for another attempt. */
export interface Admitted {
  readonly slot: Slot;
  readonly admitAgain: () => Decision | Promise<Decision>;
  /** For one that gave its slot back unused: asks for another, and may wait for it like at first. */
  readonly admitLater: (maxWaitMs: number) => Visit | Promise<Visit>;
  /** The end of its patience, for all waits together. */
  readonly patientUntil: MonotonicMs;
}

interface OfTenant extends Received, OnTerms {
  readonly tenant: { readonly id: string; readonly account: string };
}

export interface QuotaOptions {
  readonly ledger: Ledger;
  readonly room: WaitingRoom;
  /** How long requests of a tenant may wait, unless they say otherwise. */
  readonly maxWaitMs: (tenant: string) => number;
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
  state: 'state_unavailable',
};

const DISMISSED = { removed: 'key_unknown', disabled: 'tenant_disabled' } as const;

/** A share of the wait, and no more than this, is added by chance, so that the refused do not return together. */
const SPREAD = 0.25;
const LARGEST_SPREAD_MS = 5_000;

/** Pays for a request at the moment of sending, after a wait if need be, or refuses it. Whatever happens further in, the slot is ended. */
export function limitByQuota<E extends OfTenant>(options: QuotaOptions): Stage<E, E & Admitted> {
  const { ledger, meter, clock } = options;

  return (next) => {
    const goOn = (exchange: E, visit: Visit, patientUntil: MonotonicMs): Outcome | Promise<Outcome> => {
      note(exchange, visit);
      if (visit.kind !== 'admitted') return refuseVisit(visit, options.random);
      const { tenant, trace } = exchange;
      const { slot } = visit.decision;
      // Every slot this request is given ends with it: one that nobody ended would be held for ever.
      const slots = [slot];
      const admitAgain = (): Decision | Promise<Decision> => {
        const asked = ledger.admit({ account: tenant.account, tenant: tenant.id, maxWaitMs: 0 });
        const again = timed(trace, 'decide', asked);
        const noted = (decided: Decision): Decision => {
          if (decided.kind === 'admitted') slots.push(decided.slot);
          meter.quotaDecision(tenant.account, tenant.id, decided.kind === 'admitted' ? 'admitted' : decided.by);
          return decided;
        };
        return again instanceof Promise ? again.then(noted) : noted(again);
      };
      const admitLater = (maxWaitMs: number): Visit | Promise<Visit> => {
        const noted = (later: Visit): Visit => {
          if (later.kind === 'admitted') slots.push(later.decision.slot);
          note(exchange, later);
          return later;
        };
        const later = enter(exchange, maxWaitMs);
        return later instanceof Promise ? later.then(noted) : noted(later);
      };
      return ended(() => next(extend(exchange, { slot, admitAgain, admitLater, patientUntil })), slots);
    };

    return (exchange) => {
      const { tenant, headers, terms } = exchange;
      const allowedMs = preferredWaitMs(headers['prefer']) ?? options.maxWaitMs(tenant.id);
      const maxWaitMs = Math.max(0, Math.min(allowedMs, terms.patienceMs) - terms.waitedMs);
      const until = (clock.monotonic() + maxWaitMs) as MonotonicMs;
      const visit = enter(exchange, maxWaitMs);
      return visit instanceof Promise
        ? visit.then((later) => goOn(exchange, later, until))
        : goOn(exchange, visit, until);
    };
  };

  function enter({ tenant, terms, hangUp, trace }: E, maxWaitMs: number): Visit | Promise<Visit> {
    const { background } = terms;
    return options.room.enter({ account: tenant.account, tenant: tenant.id, maxWaitMs, background, hangUp, trace });
  }

  function note({ tenant, notes }: E, visit: Visit): void {
    if (visit.kind !== 'admitted' && visit.kind !== 'refused') return;
    const { decision, waitedMs } = visit;
    notes.waitMs += waitedMs;
    meter.quotaWait(tenant.id, waitedMs / 1000);
    meter.quotaDecision(tenant.account, tenant.id, decision.kind === 'admitted' ? 'admitted' : decision.by);
  }

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
    if (outcome instanceof Promise) return afterwards(outcome, end);
    end();
    return outcome;
  }
}

/** Of a visit that ended without a slot. */
export function refuseVisit(visit: Exclude<Visit, { kind: 'admitted' }>, random: () => number): Refusal {
  switch (visit.kind) {
    case 'left':
      return refuse('internal', { internal: 'caller left while waiting' });
    case 'dismissed':
      return refuse(DISMISSED[visit.because], { internal: 'by a reload, before it was sent' });
    case 'closed':
      return refuse('draining', { retryAfterSeconds: 1 });
    case 'refused': {
      const refusal = refuseQuota(visit.decision, random);
      return visit.timedOut ? { ...refusal, code: 'queue_timeout' } : refusal;
    }
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
