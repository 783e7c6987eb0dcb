import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import { AccountState, type Receipt } from '../../quota/account.ts';
import {
  type AccountView,
  type Ask,
  type Decision,
  type Ledger,
  type LedgerPlan,
  NO_TENANT,
  REMOVED_RETRY_MS,
  type Slot,
  type TenantView,
  type UpstreamLimit,
} from '../../quota/ledger.ts';
import { tellOfAnswer } from '../../quota/settled.ts';

export interface MemoryLedger extends Ledger {
  admit(ask: Ask): Decision;
}

/** The ledger of one process alone. It forgets at a restart: see {@link AccountState}. */
export function createMemoryLedger(options: {
  readonly clock: Clock;
  readonly plan: LedgerPlan;
  readonly meter: Meter;
  readonly log: Log;
}): MemoryLedger {
  const { clock } = options;
  const accounts = new Map<string, AccountState>();
  const now = (): number => Math.floor(clock.monotonic());

  const accountOf = (id: string): AccountState => {
    const account = accounts.get(id);
    if (account === undefined) throw new Error(`the ledger has no account ${id}`);
    return account;
  };
  const configure = (plan: LedgerPlan): void => {
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
    admit(ask): Decision {
      const account = accounts.get(ask.account);
      if (account === undefined) return GONE;
      const at = now();
      const answer = account.ask(ask, at);
      const tenant = ask.tenant === null ? NO_TENANT : account.tenantView(ask.tenant, at);
      if (!answer.ok) return { kind: 'refused', by: answer.by, retryAfterMs: answer.retryAfterMs, tenant };
      const told = (seen: UpstreamLimit, ours: boolean) => tellOfAnswer(ask.account, seen, ours, options);
      return { kind: 'admitted', slot: new LeasedSlot(account, ask.tenant, answer, clock, told), tenant };
    },
    withdraw: (account, tenant) => accounts.get(account)?.withdraw(tenant),
    configure,
    peek: (account, tenant): TenantView => accounts.get(account)?.tenantView(tenant, now()) ?? NO_TENANT,
    view: (account): AccountView => accountOf(account).view(now()),
  };
}

/** A reload has removed the account. */
const GONE: Decision = { kind: 'refused', by: 'tenant', retryAfterMs: REMOVED_RETRY_MS, tenant: NO_TENANT };

/** One admitted request; the first word on how it ended counts. */
class LeasedSlot implements Slot {
  readonly #account: AccountState;
  readonly #tenant: string | null;
  readonly #receipt: Receipt;
  readonly #clock: Clock;
  readonly #told: (seen: UpstreamLimit, ours: boolean) => void;
  #ended = false;

  constructor(
    account: AccountState,
    tenant: string | null,
    receipt: Receipt,
    clock: Clock,
    told: (seen: UpstreamLimit, ours: boolean) => void,
  ) {
    this.#account = account;
    this.#tenant = tenant;
    this.#receipt = receipt;
    this.#clock = clock;
    this.#told = told;
  }

  settle(seen: UpstreamLimit): void {
    if (this.#end()) this.#told(seen, this.#account.settle(this.#receipt, seen, this.#now()));
  }

  lose(latestArrival: MonotonicMs): void {
    if (!this.#end()) return;
    this.#clock.after(latestArrival - this.#clock.monotonic(), () => this.#account.expire(this.#now()));
  }

  refund(): void {
    if (this.#end()) this.#account.refund(this.#tenant, this.#now());
  }

  #end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }

  #now(): number {
    return Math.floor(this.#clock.monotonic());
  }
}
