import { extend, type Middleware, reject } from '../context.ts';
import type { Route, Routed } from '../routing/match-route.ts';
import { matches } from '../routing/pattern.ts';
import type { Authenticated } from './authenticate.ts';
import { denylistEntryFor, namesLiterally } from './denylist.ts';
import type { Tenant } from './key-store.ts';

export interface Authorised {
  /** The route in the tenant's own account. */
  readonly route: Route;
}

/** Selects the route of the tenant's account, so that no tenant uses another account's credential, and checks `allow`. */
export function authorise<E extends Routed & Authenticated>(): Middleware<E, E & Authorised> {
  return (next) => async (context) => {
    const route = context.candidates.find((candidate) => candidate.upstream.account === context.tenant.account);
    if (route === undefined) return reject('route_unknown');
    context.record.route = route.template;
    if (!isAllowed(context.tenant, context.method, context.segments)) return reject('route_forbidden');
    return next(extend(context, { route }));
  };
}

/** A path on the denylist needs an `allow` pattern that names it literally: a wildcard that covers it is not enough. */
export function isAllowed(tenant: Tenant, method: string, segments: readonly string[]): boolean {
  const denied = denylistEntryFor(segments);
  if (tenant.allow === null) return denied === null;
  return tenant.allow.some(
    (pattern) => matches(pattern, method, segments) && (denied === null || namesLiterally(pattern, denied)),
  );
}
