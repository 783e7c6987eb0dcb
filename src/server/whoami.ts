import type { Authenticated } from '../auth/authenticate.ts';
import { denylist } from '../auth/authorise.ts';
import { type Handler, type RequestContext, respond } from '../context.ts';
import type { BudgetView } from '../quota/budgets.ts';
import type { QuotaStore, TenantView } from '../quota/quota-store.ts';

/** `GET /_gateway/whoami`: the tenant's key or identity, permissions and remaining quota. It takes no slot. */
export function whoami(options: { readonly quotaStore: QuotaStore }): Handler<RequestContext & Authenticated> {
  return async ({ tenant, key }) => {
    const all = tenant.accounts.map((account) => ({ account, quota: options.quotaStore.peek(account, tenant.id) }));
    const budgets = all.flatMap(({ quota }) => quota.budgets ?? []);
    const body = {
      tenant: tenant.id,
      account: tenant.accounts[0],
      // `key` or `identity`.
      [key.kind]: {
        id: key.id,
        expires: key.expiresAtMs === null ? null : new Date(key.expiresAtMs).toISOString(),
        // Narrower than the tenant's permissions below.
        ...(key.allow !== null && { allow: key.allow.map((pattern) => pattern.text) }),
        ...(key.cidrs !== null && { cidrs: key.cidrs.cidrs }),
      },
      permissions: {
        allow: tenant.allow === null ? ['* /**'] : tenant.allow.map((pattern) => pattern.text),
        deniedUnlessNamed: denylist,
      },
      enforcement: tenant.enforcement,
      quota: all[0] && quotaOf(all[0].quota),
      // The first one is that above.
      ...(all.length > 1 && {
        accounts: Object.fromEntries(all.map(({ account, quota }) => [account, { quota: quotaOf(quota) }])),
      }),
      ...(budgets.length > 0 && { budgets: Object.fromEntries(budgets.map(budgetOf)) }),
    };
    const headers = ['Content-Type', 'application/json', 'Cache-Control', 'no-store'];
    return respond(200, headers, Buffer.from(`${JSON.stringify(body)}\n`));
  };
}

function quotaOf({ limit, burst, remaining, resetMs }: TenantView) {
  return { requestsPerMinute: limit, burst, remaining, fullInSeconds: Math.ceil(resetMs / 1000) };
}

function budgetOf({ id, per, timeZone, allowed: limit, used, left, resetsAt }: BudgetView) {
  return [id, { per, timeZone, limit, used, left, resets: new Date(resetsAt).toISOString() }];
}
