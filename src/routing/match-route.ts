import { extend, type Middleware, type Rejection, type RequestContext, reject } from '../context.ts';
import { type CanonicalTarget, canonicalise } from './canonical-path.ts';
import { matches, type Pattern } from './pattern.ts';

/** Where a request goes. */
export interface Route {
  readonly match: Pattern;
  /** The label of metrics and logs: the pattern's path, never a request's. */
  readonly template: string;
  readonly upstream: Upstream;
  readonly rewriteLinks: boolean;
}

export interface Upstream {
  readonly id: string;
  readonly account: string;
  /** `https://host[:port]`. */
  readonly origin: string;
  readonly timeoutMs: number;
}

export interface Routed extends RequestContext, CanonicalTarget {
  /**
   * The first matching route of each account. Which of them it is depends on the tenant, who is not known yet; with
   * one account there is exactly one.
   */
  readonly candidates: readonly Route[];
}

/** What follows from method and target alone. */
interface ResolvedTarget extends CanonicalTarget {
  readonly candidates: readonly Route[];
}

/** Readings that are kept, and the longest target one is kept of: some megabytes at most. */
const MOST_READINGS = 2_048;
const LONGEST_KEPT = 512;

/**
 * Finds the canonical path and the routes it matches. A path with two readings is refused here, before anything has
 * been decided by it. Callers ask for few things many times: what was read once is remembered, by every byte of it.
 */
export function matchRoute(routes: readonly Route[]): Middleware<RequestContext, Routed> {
  const byMethod = new Map<string, Map<string, ResolvedTarget>>();
  let kept = 0;
  const keep = (method: string, target: string, reading: ResolvedTarget): void => {
    if (target.length > LONGEST_KEPT) return;
    if (kept >= MOST_READINGS) {
      byMethod.clear();
      kept = 0;
    }
    const readings = byMethod.get(method);
    if (readings === undefined) byMethod.set(method, new Map([[target, reading]]));
    else readings.set(target, reading);
    kept += 1;
  };
  return (next) => (context) => {
    const { method, target } = context;
    let reading = byMethod.get(method)?.get(target);
    if (reading === undefined) {
      const read = readTarget(routes, method, target);
      if ('kind' in read) return read;
      reading = read;
      keep(method, target, reading);
    }
    context.record.route = reading.candidates[0]?.template ?? '';
    return next(extend(context, reading));
  };
}

function readTarget(routes: readonly Route[], method: string, target: string): ResolvedTarget | Rejection {
  const canonical = canonicalise(target);
  if (!canonical.ok) return reject('path_not_canonical', { internal: canonical.reason });
  const { path, segments, query } = canonical.target;
  if (carriesMethodOverride(method, query)) {
    return reject('bad_request', {
      detail: 'The query parameter `_method` is not accepted: send the method itself.',
    });
  }
  // Own endpoints live here; a catch-all route must not send what is meant for the gateway upstream.
  if (segments[0] === '_gateway') return reject('route_unknown');
  const candidates = firstOfEachAccount(routes, method, segments);
  return candidates.length === 0 ? reject('route_unknown') : { path, segments, query, candidates };
}

function firstOfEachAccount(routes: readonly Route[], method: string, segments: readonly string[]): Route[] {
  const found: Route[] = [];
  for (const route of routes) {
    if (!matches(route.match, method, segments)) continue;
    if (found.some((other) => other.upstream.account === route.upstream.account)) continue;
    found.push(route);
  }
  return found;
}

/**
 * Laravel takes the method of a POST from `_method`: without this check a tenant allowed to POST could DELETE.
 * (The header forms of the same trick are stripped with the other request headers.)
 */
function carriesMethodOverride(method: string, query: string): boolean {
  if (method !== 'POST' || query === '') return false;
  for (const name of new URLSearchParams(query).keys()) {
    const variable = variableOf(name);
    if (variable === '_method' || variable.startsWith('_method[')) return true;
  }
  return false;
}

/**
 * The name under which PHP finds a parameter (`php_register_variable_ex`): spaces before it are dropped, it ends at a NUL, and dots
 * and spaces within are underscores.
 */
function variableOf(name: string): string {
  const [beforeNul = ''] = name.split('\0');
  return beforeNul.trim().replace(/[ .]/g, '_');
}
