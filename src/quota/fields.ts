import type { Clock } from '../clock.ts';
import type { HeaderList, Middleware, RequestContext, Result } from '../context.ts';
import type { Ledger, TenantView } from './ledger.ts';

interface OfTenant extends RequestContext {
  readonly tenant: { readonly id: string; readonly account: string };
}

/**
 * The limit fields of a tenant's own quota, on every answer of a tenant and on every refusal: cached ones too. The
 * account's own numbers never leave the gateway.
 *
 * - `RateLimit-Policy`, `RateLimit`: draft-ietf-httpapi-ratelimit-headers-10. Structured fields (RFC 9651), formatted by
 *   hand since they are on every answer; a test holds them to the library's serialisation
 * - `X-RateLimit-*` as Patchworks clients know them; `-Reset` in seconds of the epoch, as Patchworks has it on a 429
 */
export function limitFields(view: TenantView, clock: Clock): HeaderList {
  const resetSeconds = Math.ceil(view.resetMs / 1000);
  return [
    'RateLimit-Policy',
    `"tenant";q=${view.limit};w=60`,
    'RateLimit',
    `"tenant";r=${view.remaining};t=${resetSeconds}`,
    'X-RateLimit-Limit',
    String(view.limit),
    'X-RateLimit-Remaining',
    String(view.remaining),
    'X-RateLimit-Reset',
    String(Math.ceil(clock.now() / 1000) + resetSeconds),
  ];
}

/** Stands right behind authentication, so that nothing a tenant gets is without them. */
export function announceQuota<E extends OfTenant>(options: {
  readonly ledger: Ledger;
  readonly clock: Clock;
}): Middleware<E, E> {
  const announce = (context: E, outcome: Result): Result => {
    const { tenant } = context;
    const fields = limitFields(options.ledger.peek(tenant.account, tenant.id), options.clock);
    if (outcome.kind === 'rejection') return { ...outcome, headers: [...(outcome.headers ?? []), ...fields] };
    outcome.headers.push(...fields);
    return outcome;
  };
  return (next) => async (context) => announce(context, await next(context));
}
