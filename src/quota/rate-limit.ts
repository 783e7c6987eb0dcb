import { parseDictionary } from 'structured-headers';
import type { Tenant } from '../auth/tenant.ts';
import type { Clock, MonotonicMs, Random } from '../clock.ts';
import {
  type ClientDisconnect,
  extend,
  LATE_ARRIVAL_MS,
  type Middleware,
  NEVER_DISCONNECTS,
  noteWouldReject,
  type Rejection,
  type RequestContext,
  reject,
  type WithWaitTerms,
} from '../context.ts';
import type { Meter } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import type { AdmissionQueue } from './admission-queue.ts';
import { DEFAULT_URGENCY } from './bookings.ts';
import { type Budget, budgetsFor, type ExhaustedBudget } from './budgets.ts';
import { admitObserved } from './observe.ts';
import type { Admission, Decision, QuotaStore, RejectedBy, Slot, TenantView } from './quota-store.ts';

/** A request that may be sent. */
export interface WithSlot {
  readonly quota: PaidSlot;
}

/** A paid slot, and ways to pay for more. In one property: V8 makes a slow dictionary of a context with many. */
interface PaidSlot {
  readonly slot: Slot;
  /** A slot for another attempt, now or not at all. */
  readonly admitAgain: () => Promise<Decision>;
  /** A new slot, after a wait like the first: for a request that gave its slot back, or is sent again with another credential. */
  readonly requeue: (maxWaitMs: number, disconnect: ClientDisconnect) => Promise<Admission>;
  /** All waits of the request together end then. */
  readonly waitUntil: MonotonicMs;
}

interface WithTenant extends RequestContext, WithWaitTerms {
  readonly tenant: Pick<Tenant, 'id' | 'enforcement' | 'quota'>;
  readonly route: { readonly upstream: { readonly account: string } };
  /** The segments of the canonical path. */
  readonly segments: readonly string[];
}

interface RateLimitOptions {
  readonly quotaStore: QuotaStore;
  readonly admissionQueue: AdmissionQueue;
  /** Decides as if the limits of observed tenants were enforced. */
  readonly observedQueue: AdmissionQueue;
  /** The budgets of an account; undefined if it has none. */
  readonly budgets: (account: string) => ReadonlyMap<string, Budget> | undefined;
  readonly meter: Meter;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Takes a slot for a request at the moment of sending, after a wait if there is none, or rejects it. Whatever happens further
 * in, each slot is ended with the request: a slot without an end would be held for ever.
 */
export function rateLimit<E extends WithTenant>(options: RateLimitOptions): Middleware<E, E & WithSlot> {
  const { quotaStore, admissionQueue, meter, clock } = options;

  return (next) => async (context) => {
    const { tenant, waitTerms, record, trace } = context;
    const { account } = context.route.upstream;
    const slots: Slot[] = [];
    // Each attempt counts: each start that is sent may cost an operation.
    const limits = options.budgets(account);
    const budgets = limits && budgetsFor(limits, context.method, context.segments);
    const count = (decision: { readonly kind: 'admitted' } | { readonly kind: 'rejected'; readonly by: RejectedBy }) =>
      meter.quotaDecision(account, tenant.id, decision.kind === 'admitted' ? 'admitted' : decision.by);

    const urgency = urgencyOf(context.headers['priority']);
    const of = { account, tenant: tenant.id, urgency, trace, budgets };
    // A request that would have been rejected is not there for its tenant's rate, nor are its retries.
    const isObserved = () => tenant.enforcement === 'observe' && record.wouldReject === null;

    const admitAgain = async (): Promise<Decision> => {
      const request = { maxWaitMs: 0, ...of };
      const admit = () => quotaStore.admit(request);
      const retry = { disconnect: NEVER_DISCONNECTS, books: false, ...request };
      const decision = isObserved()
        ? await admitObserved(admit, options.observedQueue, retry, () => {})
        : await admit();
      if (decision.kind === 'admitted') slots.push(decision.slot);
      count(decision);
      return decision;
    };
    const enter = async (maxWaitMs: number, disconnect: ClientDisconnect, books: boolean): Promise<Admission> => {
      const { background = false } = waitTerms;
      const request = { maxWaitMs, disconnect, background, books: books && !background, ...of };
      const admit = () => admissionQueue.enter(request);
      const onReject = (code: ProblemCode) => noteWouldReject(context, code, meter);
      const admission = isObserved()
        ? await admitObserved(admit, options.observedQueue, request, onReject)
        : await admit();
      if (admission.kind === 'admitted') slots.push(admission.slot);
      if (admission.kind === 'admitted' || admission.kind === 'rejected') {
        record.waitMs += admission.waitedMs;
        meter.quotaWait(tenant.id, admission.waitedMs / 1000);
        count(admission);
      }
      return admission;
    };

    // A request that takes a slot at once or not at all books none: its caller gets no time to come back at.
    const requeue = (maxWaitMs: number, disconnect: ClientDisconnect) => enter(maxWaitMs, disconnect, maxWaitMs > 0);

    const preferredMs = preferredWaitMs(context.headers['prefer']) ?? tenant.quota.maxWaitMs;
    const maxWaitMs = Math.max(0, Math.min(preferredMs, waitTerms.maxWaitMs) - waitTerms.waitedMs);
    const waitUntil = (clock.monotonic() + maxWaitMs) as MonotonicMs;
    try {
      const admission = await enter(maxWaitMs, context.disconnect, true);
      if (admission.kind !== 'admitted') {
        const view = quotaStore.peek(account, tenant.id);
        return withQuota(rejectAdmission(admission, options.random), tenant.id, view, record.waitMs);
      }
      return await next(extend(context, { quota: { slot: admission.slot, admitAgain, requeue, waitUntil } }));
    } finally {
      const latestArrivalMs = (clock.monotonic() + LATE_ARRIVAL_MS) as MonotonicMs;
      for (const slot of slots) slot.lose(latestArrivalMs);
    }
  };
}

/** Names the limit that a caller has reached, and how long it waited for. */
export function withQuota(
  rejection: Rejection,
  tenant: string,
  { limit, burst }: TenantView,
  waitedMs: number,
): Rejection {
  const quota = `Tenant "${tenant}" may send ${limit} requests a minute, and ${burst} at once.`;
  const RETRY = 'Retry after the time given.';
  switch (rejection.code) {
    case 'tenant_quota':
      return { ...rejection, detail: `${quota} Nothing of that is left. ${RETRY}` };
    case 'queue_timeout':
      return {
        ...rejection,
        detail: `No slot became free within ${Math.round(waitedMs / 100) / 10} s. ${quota} ${RETRY}`,
      };
    default:
      return rejection;
  }
}

/** For an admission that ended without a slot. */
export function rejectAdmission(admission: Exclude<Admission, { kind: 'admitted' }>, random: () => number): Rejection {
  switch (admission.kind) {
    case 'disconnected':
      return reject('client_closed', { internal: 'the caller disconnected while it waited for a slot' });
    case 'dismissed':
      return reject(DISMISSED_CODES[admission.status], { internal: 'by a reload, before it was sent' });
    case 'closed':
      return reject('draining', { retryAfterSeconds: 1 });
    case 'rejected': {
      const rejection = rejectDecision(admission, random);
      return admission.timedOut ? { ...rejection, code: 'queue_timeout' } : rejection;
    }
  }
}

function rejectDecision(
  decision: {
    readonly by: RejectedBy;
    readonly retryAfterMs: number;
    readonly appointment?: boolean | undefined;
    readonly budget?: ExhaustedBudget | undefined;
  },
  random: () => number,
): Rejection {
  const { by, retryAfterMs, appointment = false, budget } = decision;
  if (budget !== undefined) return rejectExhausted(budget, retryAfterMs);
  // Appointments are apart from each other as they are.
  const seconds = appointment ? retryAfterMs / 1000 : retryAfterSeconds(retryAfterMs, random);
  return reject(CODES[by], { retryAfterSeconds: seconds });
}

function rejectExhausted({ budget, scope, resetsAt }: ExhaustedBudget, retryAfterMs: number): Rejection {
  const reset = new Date(resetsAt).toISOString().replace('.000', '');
  const whose = scope === 'tenant' ? "your tenant's part of the" : 'the';
  const detail = `Nothing is left of ${whose} budget "${budget}" until its reset at ${reset}. Retry after the time given.`;
  return reject('budget_exhausted', { detail, retryAfterSeconds: Math.max(1, Math.ceil(retryAfterMs / 1000)) });
}

const CODES: Readonly<Record<RejectedBy, ProblemCode>> = {
  tenant: 'tenant_quota',
  account: 'account_quota',
  cooldown: 'upstream_cooldown',
  budget: 'budget_exhausted',
  state: 'state_unavailable',
};

const DISMISSED_CODES = { removed: 'key_unknown', disabled: 'tenant_disabled' } as const;

/** A random part of the wait, up to this share and this time, is added, so that rejected callers do not return together. */
const SPREAD = 0.25;
const MAX_SPREAD_MS = 5_000;

/** Whole seconds, never earlier than the true time, spread a little. */
export function retryAfterSeconds(waitMs: number, random: () => number): number {
  const spreadMs = random() * Math.min(waitMs * SPREAD, MAX_SPREAD_MS);
  return Math.max(1, Math.ceil((waitMs + spreadMs) / 1000));
}

/** A caller may ask for this at most. */
const MAX_PREFERRED_WAIT_MS = 30_000;

/**
 * `Prefer: wait=N` (RFC 7240 section 4.3): how long the caller accepts to wait, in seconds. Null if the header is absent or
 * does not say so in a readable way: a preference may be ignored.
 */
export function preferredWaitMs(header: string | string[] | undefined): number | null {
  if (header === undefined) return null;
  for (const preference of String(header).split(',')) {
    const match = /^\s*wait\s*=\s*"?(\d{1,6})"?\s*(?:;.*)?$/i.exec(preference);
    if (match !== null) return Math.min(Number(match[1]) * 1000, MAX_PREFERRED_WAIT_MS);
  }
  return null;
}

const LEAST_URGENCY = 7;

/**
 * Urgency of a request, from its `Priority` (RFC 9218). A header that cannot be read, and a value out of range, count as absent:
 * a client must not be rejected for a hint.
 */
export function urgencyOf(header: string | string[] | undefined): number {
  if (header === undefined) return DEFAULT_URGENCY;
  let value: unknown;
  try {
    value = parseDictionary(String(header)).get('u')?.[0];
  } catch {
    return DEFAULT_URGENCY;
  }
  if (typeof value !== 'number' || !Number.isInteger(value)) return DEFAULT_URGENCY;
  return value >= 0 && value <= LEAST_URGENCY ? value : DEFAULT_URGENCY;
}
