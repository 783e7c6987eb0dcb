import { extend, refuse, type Stage } from '../exchange.ts';
import type { Route, Routed } from '../routing/route.ts';
import type { Authenticated } from './authenticate.ts';
import { permits } from './tenant.ts';

export interface Authorised {
  /** The route of the tenant's own account. */
  readonly route: Route;
}

/** What the tenant may call, and by which route: that of its own account, so that no credential is ever lent. */
export function authorise<E extends Routed & Authenticated>(): Stage<E, E & Authorised> {
  return (next) => (exchange) => {
    const route = exchange.candidates.find((candidate) => candidate.upstream.account === exchange.tenant.account);
    if (route === undefined) return refuse('route_unknown');
    exchange.notes.route = route.template;
    if (!permits(exchange.tenant, exchange.method, exchange.segments)) return refuse('route_forbidden');
    return next(extend(exchange, { route }));
  };
}
