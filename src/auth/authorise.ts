import { extend, type Middleware, reject } from '../context.ts';
import type { Route, Routed } from '../routing/match-route.ts';
import type { Authenticated } from './authenticate.ts';
import { isAllowed } from './tenant.ts';

export interface Authorised {
  /** The route of the tenant's own account. */
  readonly route: Route;
}

/** What the tenant may call, and by which route: that of its own account, so that no credential is ever lent. */
export function authorise<E extends Routed & Authenticated>(): Middleware<E, E & Authorised> {
  return (next) => (context) => {
    const route = context.candidates.find((candidate) => candidate.upstream.account === context.tenant.account);
    if (route === undefined) return reject('route_unknown');
    context.record.route = route.template;
    if (!isAllowed(context.tenant, context.method, context.segments)) return reject('route_forbidden');
    return next(extend(context, { route }));
  };
}
