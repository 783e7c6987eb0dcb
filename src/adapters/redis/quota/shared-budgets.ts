import type { Clock, EpochMs } from '../../../clock.ts';
import { keptForMs } from '../../../quota/budget-period.ts';
import { BudgetCalendar, BudgetCounts, type BudgetView, type Charge, termsOf } from '../../../quota/budgets.ts';
import type { AccountQuota, TenantQuota } from '../../../quota/quota-store.ts';
import type { CountReading } from './quota-scripts.ts';

/** A charge as the scripts read it: index of its label, field, limit or -1. */
type ChargeInput = readonly [label: number, field: string, limit: number];

/** The part of a request to a script that is about budgets, and the labels whose counts it needs. */
export interface BudgetsInput {
  readonly labels: readonly string[];
  /** Absent where the account has no budgets. */
  readonly budgets?: {
    readonly labels: readonly (readonly [label: string, keptMs: number])[];
    readonly lost: readonly number[];
    readonly open: readonly number[];
  };
}

/** Calls whose reply did not come are remembered until Redis knows of them; so many at most. */
const MAX_LOST = 1_000;

/**
 * The budgets of one account as this replica knows them: the greatest counts that Redis has shown, which it brings along
 * should Redis lose them, and what it has sent without Redis.
 */
export class SharedBudgets {
  readonly #calendar: BudgetCalendar;
  readonly #seen = new BudgetCounts();
  /** Sent without Redis, since the latest time that it knew of all that was. */
  readonly alone = new BudgetCounts();
  /** Tells one time without Redis from another, and from those of other processes. */
  readonly #process: string;
  #entry = 1;
  /** Number of the latest change of a count that is known here. */
  #changes = -1;
  #calls = 0;
  readonly #open = new Set<number>();
  readonly #lost = new Set<number>();
  #quota: AccountQuota;
  #tenants: ReadonlyMap<string, TenantQuota>;

  constructor(clock: Clock, process: string, quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>) {
    this.#calendar = new BudgetCalendar(clock);
    this.#process = process;
    this.#quota = quota;
    this.#tenants = tenants;
  }

  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): void {
    this.#quota = quota;
    this.#tenants = tenants;
  }

  now(): EpochMs {
    return this.#calendar.now();
  }

  charges(tenant: string | null, budgets: readonly string[] | undefined): Charge[] {
    if (budgets === undefined) return [];
    return this.#calendar.charges(this.#termsOf(tenant), tenant, budgets);
  }

  /** The first limit that is reached, as far as it is known here. */
  exhausted(charges: readonly Charge[]): Charge | undefined {
    return charges.find(({ label, field, limit }) => limit !== null && this.#used(label, field) >= limit);
  }

  /** The same charges with what this replica may send without Redis: a part of what is left. */
  chargesAlone(charges: readonly Charge[], partOf: (left: number) => number): Charge[] {
    return charges.map((charge) => {
      const { label, field, limit } = charge;
      return limit === null ? charge : { ...charge, limit: partOf(limit - this.#seen.used(label, field)) };
    });
  }

  /** @param tenant null: the account */
  views(tenant: string | null): readonly BudgetView[] {
    if (this.#quota.budgets === undefined) return [];
    return this.#calendar.views(this.#termsOf(tenant), tenant, (label, field) => this.#used(label, field));
  }

  /** @param charges those of the request's questions, whose periods may be over by now */
  input(charges: readonly (readonly Charge[])[] = []): BudgetsInput {
    const kept = new Map<string, number>();
    const now = this.#calendar.now();
    for (const { timeZone } of this.#quota.budgets?.values() ?? []) {
      for (const per of ['month', 'day'] as const) {
        const period = this.#calendar.period(per, timeZone);
        kept.set(period.label, keptForMs(per, period, now));
      }
    }
    for (const { label } of charges.flat()) if (!kept.has(label)) kept.set(label, OVER_KEPT_MS);
    if (kept.size === 0) return { labels: [] };
    const labels = [...kept.keys()];
    return { labels, budgets: { labels: [...kept], lost: [...this.#lost], open: [...this.#open] } };
  }

  /** The counts that a joining replica brings along. */
  brought({ labels }: BudgetsInput) {
    const counts = labels.flatMap((label, index) => {
      const [seen, alone] = [this.#seen, this.alone].map((each) => each.of(label)) as [CountsOf, CountsOf];
      return [...new Set([...seen.keys(), ...alone.keys()])].map((field) => {
        const { charged, refunded } = seen.get(field) ?? { charged: 0, refunded: 0 };
        return [index + 1, field, charged, refunded, this.alone.used(label, field)];
      });
    });
    return { counts, entry: `${this.#process} ${this.#entry}` };
  }

  get seenChanges(): number {
    return this.#changes;
  }

  /** A call is about to be sent. @returns its number */
  begin(): number {
    this.#calls += 1;
    this.#open.add(this.#calls);
    return this.#calls;
  }

  /** @param isLost its reply did not come: Redis may have carried it out all the same */
  end(call: number, isLost: boolean): void {
    this.#open.delete(call);
    if (isLost && this.#lost.size < MAX_LOST) this.#lost.add(call);
  }

  /** Redis has answered a request that had this. */
  settled({ budgets }: BudgetsInput): void {
    for (const call of budgets?.lost ?? []) this.#lost.delete(call);
  }

  /** Takes over counts that Redis has shown. @param changes number of the latest change, if all before it are known now */
  learn({ labels }: BudgetsInput, counts: readonly CountReading[] = [], changes?: number): void {
    for (const [label, field, charged, refunded] of counts) {
      this.#seen.raise(labels[label - 1] as string, field, { charged, refunded });
    }
    this.#seen.expire(this.#calendar.now());
    if (changes !== undefined) this.#changes = changes;
  }

  /** Redis knows all that was sent without it. */
  entered(): void {
    if (this.alone.entries().length === 0) return;
    this.alone.clear();
    this.#entry += 1;
  }

  toInput(charges: readonly Charge[], { labels }: BudgetsInput): ChargeInput[] {
    return charges.map(({ label, field, limit }) => [labels.indexOf(label) + 1, field, limit ?? -1]);
  }

  #used(label: string, field: string): number {
    return this.#seen.used(label, field) + this.alone.used(label, field);
  }

  #termsOf(tenant: string | null) {
    return termsOf(this.#quota, this.#tenants.get(tenant ?? ''));
  }
}

type CountsOf = ReturnType<BudgetCounts['of']>;

/** For the counts of a period that ended while the question was on its way. */
const OVER_KEPT_MS = 3 * 86_400_000;
