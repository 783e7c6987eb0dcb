import type { AccountSettings, Settings } from './settings.ts';

/** Warnings. */
export function weakBudgets(settings: Settings): string[] {
  const { accounts, redis, stateDir } = settings;
  const warnings = [...accounts.values()].flatMap((account) => overcommitted(account, settings));
  const hasBudgets = [...accounts.values()].some(({ quota }) => quota.budgets !== undefined);
  if (redis !== null && stateDir !== null) warnings.push('stateDir is not used: the counts of budgets are in Redis');
  if (redis === null && stateDir === null && hasBudgets) {
    warnings.push(
      'stateDir is not set: the counts of budgets begin at 0 after each restart, and more than a budget can be sent. Set it to a directory that survives a restart, or use Redis',
    );
  }
  return warnings;
}

function overcommitted({ id: account, quota }: AccountSettings, { tenants }: Settings): string[] {
  return [...(quota.budgets ?? [])].flatMap(([id, { limit }]) => {
    const parts = [...tenants.values()]
      .filter((tenant) => tenant.accounts.includes(account) && !tenant.disabled)
      .flatMap((tenant) => tenant.quota.budgets?.get(id) ?? []);
    const sum = parts.reduce((total, each) => total + each, 0);
    const option = `accounts.${account}.budgets.${id}`;
    if (sum <= limit) return [];
    return [
      `${option}: the tenants' parts of it together are ${sum}, above its limit of ${limit}: the last to send find nothing left`,
    ];
  });
}
