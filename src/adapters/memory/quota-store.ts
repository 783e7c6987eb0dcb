import type { Clock } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import { AccountState } from '../../quota/account.ts';
import { reportLimitChange } from '../../quota/advertised-limit.ts';
import { BudgetCalendar, BudgetCounts, type Charge, exhaustedBy, termsOf } from '../../quota/budgets.ts';
import { reportAdvertisedLimit, reportUnknownMinute } from '../../quota/headers.ts';
import {
  type AccountSlotRequest,
  type AccountView,
  type Decision,
  type QuotaPlan,
  type QuotaStore,
  REMOVED_ACCOUNT,
  REMOVED_TENANT,
  type Slot,
  type TenantView,
} from '../../quota/quota-store.ts';
import { firstCall, type Lease } from '../../quota/slot-supply.ts';

/** The quota of one process alone. It forgets at a restart, but for the counts of budgets: see {@link AccountState}. */
export function createMemoryQuotaStore(options: {
  readonly clock: Clock;
  readonly plan: QuotaPlan;
  readonly meter: Meter;
  readonly log: Log;
  /** By account: what was counted of its budgets before. Default: nothing. */
  readonly countsOf?: (account: string) => BudgetCounts;
}): QuotaStore {
  const { clock, countsOf = () => new BudgetCounts() } = options;
  const calendar = new BudgetCalendar(clock);
  const accounts = new Map<string, { readonly state: AccountState; readonly counts: BudgetCounts }>();
  const now = (): number => Math.floor(clock.monotonic());

  let plan = options.plan;
  const configure = (next: QuotaPlan): void => {
    plan = next;
    for (const id of accounts.keys()) if (!plan.accounts.has(id)) accounts.delete(id);
    for (const [id, quota] of plan.accounts) {
      const tenants = plan.tenants.get(id) ?? new Map();
      const known = accounts.get(id);
      if (known !== undefined) known.state.configure(quota, tenants, now());
      else {
        const counts = countsOf(id);
        accounts.set(id, { counts, state: new AccountState(quota, tenants, now(), { counts }) });
      }
    }
  };
  configure(options.plan);

  const hasBudgets = (account: string) => plan.accounts.get(account)?.budgets !== undefined;
  const terms = (account: string, tenant: string | null) =>
    termsOf(plan.accounts.get(account) ?? {}, plan.tenants.get(account)?.get(tenant ?? ''));
  const budgets = (account: string, tenant: string | null, counts: BudgetCounts) =>
    calendar.views(terms(account, tenant), tenant, (label, field) => counts.used(label, field));
  const tenantView = (account: string, tenant: string): TenantView => {
    const known = accounts.get(account);
    if (known === undefined) return REMOVED_TENANT;
    const view = known.state.tenantView(tenant, now());
    return hasBudgets(account) ? { ...view, budgets: budgets(account, tenant, known.counts) } : view;
  };

  const slotOf = (
    { account: id, tenant }: AccountSlotRequest,
    account: AccountState,
    charges: readonly Charge[] | undefined,
    lease: Lease,
  ): Slot => {
    const isFirst = firstCall();
    return {
      complete(seen) {
        if (!isFirst()) return;
        const quota = plan.accounts.get(id);
        if (!account.isPrimed && seen.remaining === null) reportUnknownMinute(id, quota?.coldStart, options.log);
        const before = account.advertised;
        reportAdvertisedLimit(id, seen, account.complete(lease, seen, now()), options);
        const after = account.advertised;
        if (quota !== undefined) reportLimitChange(id, { before, after }, quota, options.log);
      },
      lose(latestArrivalMs) {
        if (isFirst()) clock.after(latestArrivalMs - clock.monotonic(), () => account.lose(now()));
      },
      refund() {
        if (isFirst()) account.refund(tenant, now(), charges);
      },
    };
  };

  return {
    async admit(request): Promise<Decision> {
      const account = accounts.get(request.account)?.state;
      if (account === undefined) return REMOVED_ACCOUNT;
      const at = now();
      const { tenant: caller, budgets: ids } = request;
      const charges = ids && calendar.charges(terms(request.account, caller), caller, ids);
      const decision = account.admit({ ...(charges && { charges }), ...request }, at);
      const tenant = request.tenant === null ? REMOVED_TENANT : tenantView(request.account, request.tenant);
      if (decision.kind === 'rejected') {
        const { exhausted, ...rejection } = decision;
        return { ...rejection, ...(exhausted && exhaustedBy(exhausted, calendar.now())), tenant };
      }
      return { kind: 'admitted', slot: slotOf(request, account, charges, decision.lease), tenant };
    },
    cancel: (account, tenant, place) => accounts.get(account)?.state.cancel(tenant, place),
    configure,
    peek: tenantView,
    view(id): AccountView {
      const account = accounts.get(id);
      if (account === undefined) throw new Error(`the quota store has no account ${id}`);
      const view = account.state.view(now());
      return hasBudgets(id) ? { ...view, budgets: budgets(id, null, account.counts) } : view;
    },
  };
}
