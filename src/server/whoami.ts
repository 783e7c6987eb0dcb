import type { Authenticated } from '../auth/authenticate.ts';
import { denylist } from '../auth/authorise.ts';
import { type Handler, type RequestContext, respond } from '../context.ts';
import type { BudgetView } from '../quota/budgets.ts';
import type { QuotaStore } from '../quota/quota-store.ts';

/** `GET /_gateway/whoami`: the tenant's key or identity, permissions and remaining quota. It takes no slot. */
export function whoami(options: { readonly quotaStore: QuotaStore }): Handler<RequestContext & Authenticated> {
  return async ({ tenant, key }) => {
    const quota = options.quotaStore.peek(tenant.account, tenant.id);
    const body = {
      tenant: tenant.id,
      account: tenant.account,
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
      quota: {
        requestsPerMinute: quota.limit,
        burst: quota.burst,
        remaining: quota.remaining,
        fullInSeconds: Math.ceil(quota.resetMs / 1000),
      },
      ...(quota.budgets !== undefined && { budgets: Object.fromEntries(quota.budgets.map(budgetOf)) }),
    };
    const headers = ['Content-Type', 'application/json', 'Cache-Control', 'no-store'];
    return respond(200, headers, Buffer.from(`${JSON.stringify(body)}\n`));
  };
}

function budgetOf({ id, per, timeZone, allowed: limit, used, left, resetsAt }: BudgetView) {
  return [id, { per, timeZone, limit, used, left, resets: new Date(resetsAt).toISOString() }];
}
