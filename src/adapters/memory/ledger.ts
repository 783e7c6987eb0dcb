import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../observe.ts';
import { AccountState, type TenantState, viewOf } from '../../quota/account.ts';
import { TokenBucket } from '../../quota/bucket.ts';
import type {
  AccountView,
  Ask,
  Decision,
  Ledger,
  LedgerPlan,
  Slot,
  TenantView,
  UpstreamLimit,
} from '../../quota/ledger.ts';

export interface MemoryLedger extends Ledger {
  admit(ask: Ask): Decision;
  /** Takes over new quotas; neither refills nor empties what is spent. Tenants that are gone are forgotten. */
  configure(plan: LedgerPlan): void;
}

/** The ledger of one process alone. It forgets at a restart: see {@link AccountState}. */
export function createMemoryLedger(options: {
  readonly clock: Clock;
  readonly plan: LedgerPlan;
  readonly meter: Meter;
  readonly log: Log;
}): MemoryLedger {
  const { clock, meter, log } = options;
  const accounts = new Map<string, AccountState>();
  const onSettled = (id: string, seen: UpstreamLimit, ours: boolean): void => {
    if (seen.throttled !== null) {
      meter.upstreamThrottled(id);
      log.warn(
        { account: id, retryAfterMs: seen.throttled.retryAfterMs },
        'upstream answered 429: the account is held',
      );
    }
    if (!ours) meter.upstreamFieldMalformed(id, 'x-ratelimit-limit');
  };

  const accountOf = (id: string): AccountState => {
    const account = accounts.get(id);
    if (account === undefined) throw new Error(`the ledger has no account ${id}`);
    return account;
  };
  const tenantOf = (account: string, id: string): TenantState => {
    const tenant = accountOf(account).tenants.get(id);
    if (tenant === undefined) throw new Error(`the ledger has no tenant ${id} of account ${account}`);
    return tenant;
  };

  const configure = (plan: LedgerPlan): void => {
    const now = clock.monotonic();
    for (const id of accounts.keys()) if (!plan.accounts.has(id)) accounts.delete(id);
    for (const [id, quota] of plan.accounts) {
      const known = accounts.get(id);
      const account = known ?? new AccountState(quota, now);
      if (known === undefined) accounts.set(id, account);
      else known.configure(quota, now);
      configureTenants(account, plan.tenants.get(id) ?? new Map(), now);
    }
  };
  configure(options.plan);

  return {
    admit(ask): Decision {
      const now = clock.monotonic();
      const account = accountOf(ask.account);
      const tenant = ask.tenant === null ? null : tenantOf(ask.account, ask.tenant);
      const check = account.check(tenant, now);
      if (!check.ok) {
        return { kind: 'refused', by: check.by, retryAfterMs: check.retryAfterMs, tenant: view(tenant, now) };
      }
      account.spend(tenant, now);
      const slot = new LeasedSlot(account, tenant, clock, (seen, ours) => onSettled(ask.account, seen, ours));
      return { kind: 'admitted', slot, tenant: view(tenant, now) };
    },
    peek: (account, tenant): TenantView => viewOf(tenantOf(account, tenant), clock.monotonic()),
    view: (account): AccountView => accountOf(account).view(clock.monotonic()),
    configure,
  };
}

const NO_TENANT: TenantView = { limit: 0, remaining: 0, resetMs: 0, burst: 0 };

function view(tenant: TenantState | null, now: MonotonicMs): TenantView {
  return tenant === null ? NO_TENANT : viewOf(tenant, now);
}

function configureTenants(
  account: AccountState,
  quotas: LedgerPlan['tenants'] extends ReadonlyMap<string, infer T> ? T : never,
  now: MonotonicMs,
): void {
  for (const id of account.tenants.keys()) if (!quotas.has(id)) account.tenants.delete(id);
  for (const [id, quota] of quotas) {
    const known = account.tenants.get(id);
    if (known === undefined) account.tenants.set(id, { quota, bucket: new TokenBucket(quota.rate, quota.burst, now) });
    else {
      known.quota = quota;
      known.bucket.configure(quota.rate, quota.burst, now);
    }
  }
}

/** One admitted request; the first word on how it ended counts. */
class LeasedSlot implements Slot {
  readonly #account: AccountState;
  readonly #tenant: TenantState | null;
  readonly #clock: Clock;
  readonly #onSettled: (seen: UpstreamLimit, ours: boolean) => void;
  readonly #admittedAt: MonotonicMs;
  #ended = false;

  constructor(
    account: AccountState,
    tenant: TenantState | null,
    clock: Clock,
    onSettled: (seen: UpstreamLimit, ours: boolean) => void,
  ) {
    this.#account = account;
    this.#tenant = tenant;
    this.#clock = clock;
    this.#onSettled = onSettled;
    this.#admittedAt = clock.monotonic();
  }

  settle(atMs: MonotonicMs, seen: UpstreamLimit): void {
    if (this.#end()) this.#onSettled(seen, this.#account.settle(this.#admittedAt, atMs, seen, this.#clock.monotonic()));
  }

  lose(latestArrivalMs: MonotonicMs): void {
    if (this.#end()) this.#account.lose(latestArrivalMs);
  }

  refund(): void {
    if (this.#end()) this.#account.refund(this.#tenant, this.#clock.monotonic());
  }

  #end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }
}
