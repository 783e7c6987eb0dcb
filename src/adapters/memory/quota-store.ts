import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import { AccountState } from '../../quota/account.ts';
import { reportLimitChange } from '../../quota/advertised-limit.ts';
import { reportAdvertisedLimit, reportUnknownMinute } from '../../quota/headers.ts';
import {
  type AccountView,
  type AdvertisedLimit,
  type Decision,
  type QuotaPlan,
  type QuotaStore,
  REMOVED_ACCOUNT,
  REMOVED_TENANT,
  type Slot,
  type TenantView,
} from '../../quota/quota-store.ts';
import type { Lease } from '../../quota/slot-supply.ts';

/** The quota of one process alone. It forgets at a restart: see {@link AccountState}. */
export function createMemoryQuotaStore(options: {
  readonly clock: Clock;
  readonly plan: QuotaPlan;
  readonly meter: Meter;
  readonly log: Log;
}): QuotaStore {
  const { clock } = options;
  const accounts = new Map<string, AccountState>();
  const now = (): number => Math.floor(clock.monotonic());

  let latestPlan = options.plan;
  const configure = (plan: QuotaPlan): void => {
    latestPlan = plan;
    for (const id of accounts.keys()) if (!plan.accounts.has(id)) accounts.delete(id);
    for (const [id, quota] of plan.accounts) {
      const tenants = plan.tenants.get(id) ?? new Map();
      const known = accounts.get(id);
      if (known === undefined) accounts.set(id, new AccountState(quota, tenants, now()));
      else known.configure(quota, tenants, now());
    }
  };
  configure(options.plan);

  return {
    async admit(request): Promise<Decision> {
      const account = accounts.get(request.account);
      if (account === undefined) return REMOVED_ACCOUNT;
      const at = now();
      const decision = account.admit(request, at);
      const tenant = request.tenant === null ? REMOVED_TENANT : account.tenantView(request.tenant, at);
      if (decision.kind === 'rejected') return { ...decision, tenant };
      const onAdvertised = (seen: AdvertisedLimit, isOurs: boolean, before: number | null) => {
        reportAdvertisedLimit(request.account, seen, isOurs, options);
        const quota = latestPlan.accounts.get(request.account);
        const after = account.advertised;
        if (quota !== undefined) reportLimitChange(request.account, { before, after }, quota, options.log);
      };
      const onUnknownMinute = () =>
        reportUnknownMinute(request.account, latestPlan.accounts.get(request.account)?.coldStart, options.log);
      const { lease } = decision;
      return {
        kind: 'admitted',
        slot: new MemorySlot({ account, tenant: request.tenant, lease, clock, onAdvertised, onUnknownMinute }),
        tenant,
      };
    },
    cancel: (account, tenant, place) => accounts.get(account)?.cancel(tenant, place),
    configure,
    peek: (account, tenant): TenantView => accounts.get(account)?.tenantView(tenant, now()) ?? REMOVED_TENANT,
    view(id): AccountView {
      const account = accounts.get(id);
      if (account === undefined) throw new Error(`the quota store has no account ${id}`);
      return account.view(now());
    },
  };
}

interface MemorySlotOptions {
  readonly account: AccountState;
  readonly tenant: string | null;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly onAdvertised: (seen: AdvertisedLimit, isOurs: boolean, before: number | null) => void;
  readonly onUnknownMinute: () => void;
}

class MemorySlot implements Slot {
  readonly #options: MemorySlotOptions;
  #ended = false;

  constructor(options: MemorySlotOptions) {
    this.#options = options;
  }

  complete(seen: AdvertisedLimit): void {
    const { account, lease, onAdvertised, onUnknownMinute } = this.#options;
    if (!this.#end()) return;
    if (!account.isPrimed && seen.remaining === null) onUnknownMinute();
    const before = account.advertised;
    onAdvertised(seen, account.complete(lease, seen, this.#now()), before);
  }

  lose(latestArrivalMs: MonotonicMs): void {
    if (!this.#end()) return;
    const { account, clock } = this.#options;
    clock.after(latestArrivalMs - clock.monotonic(), () => account.lose(this.#now()));
  }

  refund(): void {
    const { account, tenant } = this.#options;
    if (this.#end()) account.refund(tenant, this.#now());
  }

  /** False if the slot has ended already. */
  #end(): boolean {
    const ended = this.#ended;
    this.#ended = true;
    return !ended;
  }

  #now(): number {
    return Math.floor(this.#options.clock.monotonic());
  }
}
