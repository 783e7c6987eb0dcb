import type { Clock, EpochMs } from '../clock.ts';
import { matches, type Pattern } from '../routing/pattern.ts';
import { Calendar, isLongOver, type Period, type PeriodKind } from './budget-period.ts';

/** A budget of an account, from the configuration. */
export interface Budget {
  /** Requests that count. */
  readonly match: readonly Pattern[];
  /** Requests a period. */
  readonly limit: number;
  readonly per: PeriodKind;
  readonly timeZone: string;
  /** Per cent of the limit: more than that deserves a look. */
  readonly warnAtPercent: number;
}

/** A count that a request adds to, and the limit of the count; null for none. */
export interface Charge {
  /** The label of the {@link Period}. */
  readonly label: string;
  /** See {@link fieldOf}. */
  readonly field: string;
  readonly limit: number | null;
  readonly budget: string;
  readonly scope: 'account' | 'tenant';
  readonly resetsAt: EpochMs;
}

/** A budget that has nothing left. */
export interface ExhaustedBudget {
  readonly budget: string;
  readonly scope: 'account' | 'tenant';
  readonly resetsAt: EpochMs;
}

/** The part of a rejection that is about the limit that a request would have exceeded. */
export function exhaustedBy(
  { budget, scope, resetsAt }: Charge,
  now: EpochMs,
): { readonly retryAfterMs: number; readonly askAgainMs: number; readonly budget: ExhaustedBudget } {
  const retryAfterMs = Math.max(1, Math.ceil(resetsAt - now));
  return { retryAfterMs, askAgainMs: retryAfterMs, budget: { budget, scope, resetsAt } };
}

/** A budget as it stands: of an account, or of a tenant. */
export interface BudgetView {
  readonly id: string;
  readonly per: PeriodKind;
  readonly timeZone: string;
  readonly startsAt: EpochMs;
  readonly resetsAt: EpochMs;
  /** Null: the tenant has none of its own. */
  readonly limit: number | null;
  /** The limit, or that of the account where the tenant has none. */
  readonly allowed: number;
  readonly used: number;
  /** Requests that may still be sent; of a tenant, no more than the account has left. */
  readonly left: number;
  /** From so many on an alert is due; null without a limit. */
  readonly warnAt: number | null;
}

/** A rate over less than this part of a period says nothing of the rest. */
const LEAST_PART = 0.01;

/** The rest of a period at its average rate so far: the requests used at the reset, and when nothing is left before it. */
export function projectionOf(
  { startsAt, resetsAt, used, left }: Pick<BudgetView, 'startsAt' | 'resetsAt' | 'used' | 'left'>,
  now: EpochMs,
): { readonly used: number; readonly endsAt: EpochMs | null } {
  const perMs = used / Math.max(now - startsAt, (resetsAt - startsAt) * LEAST_PART);
  const more = perMs * Math.max(0, resetsAt - now);
  const endsAt = left <= 0 ? now : more > left ? ((now + left / perMs) as EpochMs) : null;
  return { used: Math.round(used + more), endsAt };
}

/** The budgets of one account, and the part of each that a tenant may use at most. */
interface BudgetTerms {
  readonly account: ReadonlyMap<string, Budget>;
  readonly tenant: ReadonlyMap<string, number>;
}

export function termsOf(
  quota: { readonly budgets?: ReadonlyMap<string, Budget> },
  tenant?: { readonly budgets?: ReadonlyMap<string, number> },
): BudgetTerms {
  return { account: quota.budgets ?? NONE.account, tenant: tenant?.budgets ?? NONE.tenant };
}

const NONE: BudgetTerms = { account: new Map(), tenant: new Map() };

/** The budgets that a request counts against; undefined if there are none. */
export function budgetsFor(
  budgets: ReadonlyMap<string, Budget>,
  method: string,
  segments: readonly string[],
): readonly string[] | undefined {
  const found: string[] = [];
  for (const [id, { match }] of budgets) if (match.some((each) => matches(each, method, segments))) found.push(id);
  return found.length > 0 ? found : undefined;
}

/** The name of a count within its period. Neither a budget nor a tenant has a `|` in its name. */
export function fieldOf(budget: string, tenant: string | null): string {
  return tenant === null ? budget : `${budget}|${tenant}`;
}

/**
 * Finds the counts of a request. Every budget is counted by the day and by the month, for the account and for each tenant,
 * whatever has a limit now: a reload that adds a limit or changes a period finds what was used before it.
 */
export class BudgetCalendar {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #calendars = new Map<string, Calendar>();

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  now(): EpochMs {
    return this.#clock.now();
  }

  period(per: PeriodKind, timeZone: string): Period {
    let calendar = this.#calendars.get(timeZone);
    if (calendar === undefined) {
      calendar = new Calendar(timeZone);
      this.#calendars.set(timeZone, calendar);
    }
    return calendar.period(per, this.now());
  }

  charges(terms: BudgetTerms, tenant: string | null, ids: readonly string[] = []): Charge[] {
    const charges: Charge[] = [];
    for (const id of ids) {
      const budget = terms.account.get(id);
      // A reload has removed it while the request was under way.
      if (budget === undefined || tenant === null) continue;
      for (const per of PERIODS) {
        const { label, endsAt: resetsAt } = this.period(per, budget.timeZone);
        const isLimited = per === budget.per;
        const own = isLimited ? (terms.tenant.get(id) ?? null) : null;
        const common = { label, budget: id, resetsAt };
        charges.push({ field: fieldOf(id, tenant), limit: own, scope: 'tenant', ...common });
        const limit = isLimited ? budget.limit : null;
        charges.push({ field: fieldOf(id, null), limit, scope: 'account', ...common });
      }
    }
    return charges;
  }

  /** All budgets of an account, of it or of a tenant. */
  views(terms: BudgetTerms, tenant: string | null, used: (label: string, field: string) => number): BudgetView[] {
    return [...terms.account].map(([id, { per, timeZone, limit: ofAccount, warnAtPercent }]) => {
      const { label, startsAt, endsAt: resetsAt } = this.period(per, timeZone);
      const usedOfAccount = used(label, fieldOf(id, null));
      const own = tenant === null ? usedOfAccount : used(label, fieldOf(id, tenant));
      const limit = tenant === null ? ofAccount : (terms.tenant.get(id) ?? null);
      const allowed = limit ?? ofAccount;
      const left = Math.min(ofAccount - usedOfAccount, allowed - own);
      const warnAt = limit === null ? null : Math.ceil((limit * warnAtPercent) / 100);
      return { id, per, timeZone, startsAt, resetsAt, limit, allowed, used: own, left: Math.max(0, left), warnAt };
    });
  }
}

const PERIODS: readonly PeriodKind[] = ['month', 'day'];

/** Both only grow: of two readings of the same count, the later one has the greater numbers. */
interface Count {
  readonly charged: number;
  readonly refunded: number;
}

/** How many requests were sent, by period and field. A request that provably never left is refunded. */
export class BudgetCounts {
  readonly #periods = new Map<string, Map<string, Count>>();
  readonly #onChange: () => void;

  /** @param onChange after each change */
  constructor(onChange: () => void = () => {}) {
    this.#onChange = onChange;
  }

  used(label: string, field: string): number {
    const count = this.#periods.get(label)?.get(field);
    return count === undefined ? 0 : Math.max(0, count.charged - count.refunded);
  }

  /** The first limit that a request would exceed. */
  exhausted(charges: readonly Charge[]): Charge | undefined {
    return charges.find(({ label, field, limit }) => limit !== null && this.used(label, field) >= limit);
  }

  charge(charges: readonly Charge[]): void {
    for (const { label, field } of charges) this.#add(label, field, 1, 0);
    if (charges.length > 0) this.#onChange();
  }

  refund(charges: readonly Charge[]): void {
    for (const { label, field } of charges) this.#add(label, field, 0, 1);
    if (charges.length > 0) this.#onChange();
  }

  /** Takes over another reading of a count: the later of the two holds. */
  raise(label: string, field: string, { charged, refunded }: Count): void {
    const counts = this.#made(label);
    const known = counts.get(field);
    counts.set(field, {
      charged: Math.max(charged, known?.charged ?? 0),
      refunded: Math.max(refunded, known?.refunded ?? 0),
    });
  }

  /** Forgets what is of no use any more. */
  expire(now: EpochMs): void {
    for (const label of this.#periods.keys()) if (isLongOver(label, now)) this.#periods.delete(label);
  }

  clear(): void {
    this.#periods.clear();
  }

  of(label: string): ReadonlyMap<string, Count> {
    return this.#periods.get(label) ?? new Map();
  }

  entries(): [label: string, counts: ReadonlyMap<string, Count>][] {
    return [...this.#periods];
  }

  #add(label: string, field: string, charged: number, refunded: number): void {
    const counts = this.#made(label);
    const known = counts.get(field) ?? { charged: 0, refunded: 0 };
    counts.set(field, { charged: known.charged + charged, refunded: known.refunded + refunded });
  }

  #made(label: string): Map<string, Count> {
    const counts = this.#periods.get(label) ?? new Map<string, Count>();
    this.#periods.set(label, counts);
    return counts;
  }
}
