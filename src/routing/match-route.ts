import { createHash } from 'node:crypto';
import { extend, type Middleware, type Rejection, type RequestContext, reject } from '../context.ts';
import { type CanonicalTarget, canonicalise } from './canonical-path.ts';
import { canonicalQuery } from './canonical-query.ts';
import { matches, type Pattern } from './pattern.ts';
import { routeLabel } from './route-label.ts';

export interface Route {
  readonly match: Pattern;
  /** The path of the pattern. */
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

export interface Routed extends RequestContext, ResolvedTarget {}

/** Everything that follows from method and target alone. */
export interface ResolvedTarget extends CanonicalTarget {
  /** The query in its canonical spelling: see {@link canonicalQuery}. */
  readonly canonicalQuery: string;
  /** Digest of the canonical query, for the access log, which never has the query itself; '' without a query. */
  readonly queryDigest: string;
  /** The first matching route of each account: authorisation selects the one of the tenant's account. */
  readonly candidates: readonly Route[];
}

/** Characters of a caller's path that an error repeats. */
const SHOWN_PATH = 200;

/** `GET /path`, for an error: a canonical path has no query, and only characters that a URL has. */
export function showRequest(method: string, path: string): string {
  return `${method} ${path.length > SHOWN_PATH ? `${path.slice(0, SHOWN_PATH)}...` : path}`;
}

/** Both bound the memory for resolved targets to some megabytes. */
const MAX_REMEMBERED = 2_048;
const MAX_REMEMBERED_LENGTH = 512;

/**
 * Finds the canonical path and the routes that match it. A target that servers may read in two ways is rejected here, before
 * anything is decided by it. Callers repeat the same few targets, so each resolved target is remembered by all of its bytes.
 */
export function matchRoute(routes: readonly Route[]): Middleware<RequestContext, Routed> {
  const remembered = new Map<string, ResolvedTarget>();
  const remember = (name: string, resolved: ResolvedTarget): void => {
    if (name.length > MAX_REMEMBERED_LENGTH) return;
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(name, resolved);
  };
  return (next) => async (context) => {
    const name = `${context.method} ${context.target}`;
    let resolved = remembered.get(name);
    if (resolved === undefined) {
      const result = resolveTarget(routes, context);
      if ('kind' in result) return result;
      resolved = result;
      remember(name, resolved);
    }
    const [first] = resolved.candidates;
    context.record.queryDigest = resolved.queryDigest;
    context.record.route = first === undefined ? '' : routeLabel(first, resolved.segments);
    return next(extend(context, resolved));
  };
}

function resolveTarget(
  routes: readonly Route[],
  { method, target }: Pick<RequestContext, 'method' | 'target'>,
): ResolvedTarget | Rejection {
  const canonical = canonicalise(target);
  if (!canonical.ok) {
    const { reason } = canonical;
    const detail = `${reason.charAt(0).toUpperCase()}${reason.slice(1)}. Send it in canonical form.`;
    return reject('path_not_canonical', { detail, internal: reason });
  }
  const { path, segments, query } = canonical.target;
  if (carriesMethodOverride(method, query)) {
    return reject('bad_request', {
      detail: 'The query parameter `_method` is not accepted: send the method itself.',
    });
  }
  // The gateway's own endpoints are below this path: a catch-all route must not send them upstream.
  if (segments[0] === '_gateway') return unknownRoute(routes, path);
  const candidates = firstOfEachAccount(routes, method, segments);
  if (candidates.length === 0) return unknownRoute(routes, path);
  const canonicalised = canonicalQuery(query);
  const queryDigest = digestOf(canonicalised);
  return { path, segments, query, canonicalQuery: canonicalised, queryDigest, candidates };
}

/** Tells queries apart, and is too short to find out what was in one. */
const DIGEST_DIGITS = 8;

function digestOf(query: string): string {
  return query === '' ? '' : createHash('sha256').update(query).digest('hex').slice(0, DIGEST_DIGITS);
}

const API = '/api/v1';

/** The usual cause is a base URL without the path that all of Patchworks' API has. The path is not repeated: it may be a secret. */
function unknownRoute(routes: readonly Route[], path: string): Rejection {
  const servesApi = routes.some(({ match: { segments } }) => `/${segments.slice(0, 2).join('/')}` === API);
  if (!servesApi || `${path}/`.startsWith(`${API}/`)) return reject('route_unknown');
  return reject('route_unknown', {
    detail: `The gateway has no route for this method and path. Paths begin with \`${API}\`.`,
  });
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
 * Laravel reads the method of a POST from `_method`: without this check a tenant that may POST could DELETE. The header forms of
 * the same override are stripped with the other request headers.
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
 * The name under which PHP finds a parameter (`php_register_variable_ex`): without leading spaces, cut at a NUL, with dots and
 * spaces as underscores.
 */
function variableOf(name: string): string {
  const [beforeNul = ''] = name.split('\0');
  return beforeNul.trim().replace(/[ .]/g, '_');
}
