import type { Clock, MonotonicMs } from '../clock.ts';
import {
  extend,
  type Middleware,
  type Rejection,
  type RequestContext,
  type Result,
  reject,
  type WithWaitTerms,
} from '../context.ts';
import { type Meter, traced } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import type { Decision, Ledger, RefusedBy, Slot } from './ledger.ts';
import { preferredWaitMs } from './prefer.ts';
import type { Visit, WaitingRoom } from './waiting.ts';

/** What a request has that may be sent: a paid slot, and a way to pay for another attempt. */
export interface Admitted {
  readonly slot: Slot;
  readonly admitAgain: () => Promise<Decision>;
  /** For one that gave its slot back unused: asks for another, and may wait for it like at first. */
  readonly admitLater: (maxWaitMs: number) => Promise<Visit>;
  /** The end of its patience, for all waits together. */
  readonly patientUntil: MonotonicMs;
}

interface OfTenant extends RequestContext, WithWaitTerms {
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
export function limitByQuota<E extends OfTenant>(options: QuotaOptions): Middleware<E, E & Admitted> {
  const { ledger, meter, clock } = options;

  return (next) => {
    const goOn = async (context: E, visit: Visit, patientUntil: MonotonicMs): Promise<Result> => {
      note(context, visit);
      if (visit.kind !== 'admitted') return refuseVisit(visit, options.random);
      const { tenant, trace } = context;
      const { slot } = visit.decision;
      // Every slot this request is given ends with it: one that nobody ended would be held for ever.
      const slots = [slot];
      const admitAgain = async (): Promise<Decision> => {
        const asked = ledger.admit({ account: tenant.account, tenant: tenant.id, maxWaitMs: 0 });
        const again = await traced(trace, 'decide', asked);
        if (again.kind === 'admitted') slots.push(again.slot);
        meter.quotaDecision(tenant.account, tenant.id, again.kind === 'admitted' ? 'admitted' : again.by);
        return again;
      };
      const admitLater = async (maxWaitMs: number): Promise<Visit> => {
        const later = await enter(context, maxWaitMs);
        if (later.kind === 'admitted') slots.push(later.decision.slot);
        note(context, later);
        return later;
      };
      try {
        return await next(extend(context, { slot, admitAgain, admitLater, patientUntil }));
      } finally {
        const latest = (clock.monotonic() + options.lateArrivalMs) as MonotonicMs;
        for (const each of slots) each.lose(latest);
      }
    };

    return async (context) => {
      const { tenant, headers, waitTerms: terms } = context;
      const allowedMs = preferredWaitMs(headers['prefer']) ?? options.maxWaitMs(tenant.id);
      const maxWaitMs = Math.max(0, Math.min(allowedMs, terms.maxWaitMs) - terms.waitedMs);
      const until = (clock.monotonic() + maxWaitMs) as MonotonicMs;
      return goOn(context, await enter(context, maxWaitMs), until);
    };
  };

  function enter({ tenant, waitTerms: terms, disconnect, trace }: E, maxWaitMs: number): Visit | Promise<Visit> {
    const { background } = terms;
    return options.room.enter({ account: tenant.account, tenant: tenant.id, maxWaitMs, background, disconnect, trace });
  }

  function note({ tenant, record }: E, visit: Visit): void {
    if (visit.kind !== 'admitted' && visit.kind !== 'refused') return;
    const { decision, waitedMs } = visit;
    record.waitMs += waitedMs;
    meter.quotaWait(tenant.id, waitedMs / 1000);
    meter.quotaDecision(tenant.account, tenant.id, decision.kind === 'admitted' ? 'admitted' : decision.by);
  }
}

/** Of a visit that ended without a slot. */
export function refuseVisit(visit: Exclude<Visit, { kind: 'admitted' }>, random: () => number): Rejection {
  switch (visit.kind) {
    case 'left':
      return reject('client_closed', { internal: 'caller left while waiting' });
    case 'dismissed':
      return reject(DISMISSED[visit.because], { internal: 'by a reload, before it was sent' });
    case 'closed':
      return reject('draining', { retryAfterSeconds: 1 });
    case 'refused': {
      const refusal = refuseQuota(visit.decision, random);
      return visit.timedOut ? { ...refusal, code: 'queue_timeout' } : refusal;
    }
  }
}

export function refuseQuota(decision: Extract<Decision, { kind: 'refused' }>, random: () => number): Rejection {
  return reject(CODES[decision.by], { retryAfterSeconds: retryAfterSeconds(decision.retryAfterMs, random) });
}

/** Whole seconds, never earlier than the true time, spread a little. */
export function retryAfterSeconds(waitMs: number, random: () => number): number {
  const spreadMs = random() * Math.min(waitMs * SPREAD, LARGEST_SPREAD_MS);
  return Math.max(1, Math.ceil((waitMs + spreadMs) / 1000));
}
