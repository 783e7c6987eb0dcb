import type { ProblemCode } from '../problem.ts';
import { type BudgetCalendar, BudgetCounts, budgetsFor, fieldOf, termsOf } from '../quota/budgets.ts';
import type { QuotaPlan } from '../quota/quota-store.ts';
import { canonicalise } from '../routing/canonical-path.ts';

export type Side = 'recorded' | 'predicted';

/** The end of one request. */
export interface Outcome {
  readonly code: ProblemCode | null;
  readonly waitMs: number;
}

/** The use of a tenant or an account. A contract: scripts read it. */
export interface UsageReport {
  readonly requests: number;
  readonly rejections: Readonly<Record<string, number>>;
  /** Over all requests; those that did not wait count with 0. */
  readonly waitMs: { readonly p50: number; readonly p95: number };
  readonly upstreamRequests: number;
  /** Left out where there is none. `period`: the one with the greatest use. */
  readonly budgets?: Readonly<Record<string, BudgetUse>>;
}

interface BudgetUse {
  readonly used: number;
  /** Null: a tenant without a part of its own. */
  readonly limit: number | null;
  readonly period: string;
}

export interface Comparison {
  readonly recorded: UsageReport;
  readonly predicted: UsageReport;
}

/** Names come from a log: a wrong file must not fill the memory. */
const MAX_NAMES = 1_000;
const TOO_MANY = '(others)';

/** Counts the use of all tenants and accounts on one side. */
export class SideUsage {
  readonly #quotas: QuotaPlan;
  readonly #calendar: BudgetCalendar;
  readonly #tenants = new Map<string, Usage>();
  readonly #accounts = new Map<string, Usage>();
  readonly #budgets = new Map<string, BudgetCounts>();

  constructor(quotas: QuotaPlan, calendar: BudgetCalendar) {
    this.#quotas = quotas;
    this.#calendar = calendar;
  }

  /** @param account '' for a request that was rejected before its account was known */
  finished(tenant: string, account: string, outcome: Outcome): void {
    usageOf(this.#tenants, tenant).finished(outcome);
    if (account !== '') usageOf(this.#accounts, account).finished(outcome);
  }

  /** Requests to the upstream. @param path as the caller sent it */
  sent(tenant: string, account: string, method: string, path: string, count = 1): void {
    if (count === 0) return;
    usageOf(this.#tenants, tenant).sent += count;
    if (account === '') return;
    usageOf(this.#accounts, account).sent += count;
    const quota = this.#quotas.accounts.get(account);
    if (quota?.budgets === undefined) return;
    const canonical = canonicalise(path);
    if (!canonical.ok) return;
    const ids = budgetsFor(quota.budgets, method, canonical.target.segments);
    const charges = this.#calendar.charges(termsOf(quota, this.#quotas.tenants.get(account)?.get(tenant)), tenant, ids);
    const counts = this.#budgets.get(account) ?? new BudgetCounts();
    this.#budgets.set(account, counts);
    for (let i = 0; i < count; i++) counts.charge(charges);
  }

  get tenants(): string[] {
    return [...this.#tenants.keys()];
  }

  get accounts(): string[] {
    return [...this.#accounts.keys()];
  }

  tenantReport(tenant: string): UsageReport {
    const accounts = [...this.#quotas.tenants].filter(([, tenants]) => tenants.has(tenant));
    const budgets = accounts.flatMap(([account]) => this.#budgetsOf(account, tenant));
    return reportOf(this.#tenants.get(tenant), budgets);
  }

  accountReport(account: string): UsageReport {
    return reportOf(this.#accounts.get(account), this.#budgetsOf(account, null));
  }

  #budgetsOf(account: string, tenant: string | null): [string, BudgetUse][] {
    const budgets = this.#quotas.accounts.get(account)?.budgets ?? new Map();
    const parts = this.#quotas.tenants.get(account)?.get(tenant ?? '')?.budgets;
    return [...budgets].map(([id, budget]) => {
      const limit = tenant === null ? budget.limit : (parts?.get(id) ?? null);
      let most: BudgetUse = { used: 0, limit, period: this.#calendar.period(budget.per, budget.timeZone).label };
      const counts = this.#budgets.get(account);
      for (const [label] of counts?.entries() ?? []) {
        const used = counts?.used(label, fieldOf(id, tenant)) ?? 0;
        // The label of a day is longer than that of a month.
        if (label.length === most.period.length && used > most.used) most = { used, limit, period: label };
      }
      return [id, most];
    });
  }
}

function usageOf(all: Map<string, Usage>, name: string): Usage {
  const known = all.get(name) ?? (all.size >= MAX_NAMES ? all.get(TOO_MANY) : undefined);
  if (known !== undefined) return known;
  const usage = new Usage();
  all.set(all.size >= MAX_NAMES ? TOO_MANY : name, usage);
  return usage;
}

class Usage {
  readonly rejections = new Map<string, number>();
  /** How many requests waited for so long. Three digits of a wait are enough, and bound the map. */
  readonly waits = new Map<number, number>();
  requests = 0;
  sent = 0;

  finished({ code, waitMs }: Outcome): void {
    this.requests += 1;
    if (code !== null) add(this.rejections, code);
    add(this.waits, waitMs < 1_000 ? Math.round(waitMs) : Number(waitMs.toPrecision(3)));
  }

  /** The wait that this share of the requests did not exceed. */
  wait(share: number): number {
    let left = Math.ceil(share * this.requests);
    for (const [waitMs, count] of [...this.waits].sort(([a], [b]) => a - b)) {
      left -= count;
      if (left <= 0) return waitMs;
    }
    return 0;
  }
}

function add<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function reportOf(usage: Usage = new Usage(), budgets: readonly [string, BudgetUse][] = []): UsageReport {
  return {
    requests: usage.requests,
    rejections: Object.fromEntries([...usage.rejections].sort(([a], [b]) => (a < b ? -1 : 1))),
    waitMs: { p50: usage.wait(0.5), p95: usage.wait(0.95) },
    upstreamRequests: usage.sent,
    ...(budgets.length > 0 && { budgets: Object.fromEntries(budgets) }),
  };
}
