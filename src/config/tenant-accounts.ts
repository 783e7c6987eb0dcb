import type { TenantQuota } from '../quota/quota-store.ts';
import type { AccountSettings, Settings, TenantSettings } from './settings.ts';
import type { TenantInput } from './tenant-schema.ts';
import type { Path } from './yaml-source.ts';

type ReportTenant = (path: Path, message: string) => void;

/** @param only the only account; null if there are several, or none */
export function accountsOf(id: string, input: TenantInput, only: string | null, report: ReportTenant): string[] {
  const { account, accounts } = input;
  if (account !== null && accounts !== null) {
    report(['tenants', id, 'accounts'], 'is there beside `account`: write one of them');
  }
  const named = accounts ?? (account === null ? [] : [account]);
  if (named.length > 0) return [...new Set(named)];
  if (only === null) report(['tenants', id], 'needs an account, since there are several');
  return only === null ? [] : [only];
}

/** The accounts of each tenant exist, and each of its budgets is one of theirs. */
export function checkTenantAccounts(
  settings: Settings,
  tenants: Readonly<Record<string, TenantInput>>,
  report: ReportTenant,
): void {
  for (const tenant of settings.tenants.values()) {
    const list = tenants[tenant.id]?.accounts ?? null;
    for (const account of tenant.accounts) {
      if (settings.accounts.has(account)) continue;
      const at = list === null ? ['account'] : ['accounts', list.indexOf(account)];
      const known = [...settings.accounts.keys()].join(', ');
      report(['tenants', tenant.id, ...at], `there is no such account; known are ${known}`);
    }
    checkBudgets(tenant, accountsIn(tenant, settings.accounts), report);
  }
}

function checkBudgets({ id, quota }: TenantSettings, accounts: readonly AccountSettings[], report: ReportTenant): void {
  const [first] = accounts;
  if (first === undefined) return;
  const known = new Set<string>();
  for (const account of accounts) {
    for (const name of account.quota.budgets?.keys() ?? []) {
      // Metrics and headers of a tenant name a budget without its account.
      const message = `account "${account.id}" has a budget "${name}" like another account of the tenant: give it another name`;
      if (known.has(name)) report(['tenants', id, 'accounts'], message);
      known.add(name);
    }
  }
  const none =
    accounts.length === 1 ? `account "${first.id}" has no such budget` : 'none of its accounts has such a budget';
  for (const name of quota.budgets?.keys() ?? []) {
    if (known.has(name)) continue;
    const others = known.size === 0 ? 'it has none' : `known are ${[...known].join(', ')}`;
    report(['tenants', id, 'budgets', name], `${none}; ${others}`);
  }
}

export function accountsIn(
  tenant: Pick<TenantSettings, 'accounts'>,
  accounts: Settings['accounts'],
): readonly AccountSettings[] {
  return tenant.accounts.flatMap((id) => accounts.get(id) ?? []);
}

/** The quota of a tenant in one of its accounts; it holds in each of them on its own. */
export function tenantQuotaIn({ quota }: Pick<TenantSettings, 'quota'>, account: AccountSettings): TenantQuota {
  const { ceiling, burst } = account.quota;
  return { ...quota, rate: quota.rate ?? ceiling, burst: quota.burst ?? Math.min(burst, ceiling) };
}

/** The most that any account of the tenant can send in a minute. */
export function largestCeilingOf(tenant: TenantSettings, { accounts }: Settings): number {
  const ceilings = accountsIn(tenant, accounts).map(({ quota }) => quota.ceiling);
  return ceilings.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...ceilings);
}
