import { createHash } from 'node:crypto';
import { extend, type Middleware, type Rejection, type RequestContext, reject } from '../context.ts';
import { type CanonicalTarget, canonicalise } from './canonical-path.ts';
import { matches, type Pattern } from './pattern.ts';
import { canonicalQuery, carriesMethodOverride, carriesSecret, SIGNATURE_PARAMETER } from './query.ts';
import type { Rewrite } from './rewrite.ts';

export interface Route {
  readonly match: Pattern;
  /** The path of the pattern. */
  readonly template: string;
  readonly upstream: Upstream;
  readonly rewriteLinks: boolean;
  /** Null: the path is sent as it is. */
  readonly rewrite: Rewrite | null;
  /** Id of the only credential that is used; null: any of the account. */
  readonly credential: string | null;
  /** Headers and parameters in which a credential is sent. A caller's own are dropped or refused. */
  readonly secretHeaders: ReadonlySet<string>;
  readonly secretParameters: readonly string[];
  /** Every request starts a run, a GET too: none is sent twice, stored, or shared with other callers. */
  readonly starts: boolean;
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
interface ResolvedTarget extends CanonicalTarget {
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
  return (next) => async (context) => {
    const name = `${context.method} ${context.target}`;
    let resolved = remembered.get(name);
    if (resolved === undefined) {
      const result = resolveTarget(routes, context);
      if ('kind' in result) return result;
      resolved = result;
      if (remembered.size >= MAX_REMEMBERED) remembered.clear();
      if (name.length <= MAX_REMEMBERED_LENGTH) remembered.set(name, resolved);
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
  if (carriesSecret(query, SIGNATURE)) return rejectSecret(SIGNATURE_PARAMETER);
  // The gateway's own endpoints are below this path: a catch-all route must not send them upstream.
  if (segments[0] === '_gateway') return unknownRoute(routes, path, segments);
  const candidates = firstOfEachAccount(routes, method, segments);
  if (candidates.length === 0) return unknownRoute(routes, path, segments);
  const [secret] = candidates.filter(({ secretParameters }) => carriesSecret(query, secretParameters));
  if (secret !== undefined) return rejectSecret(secret.secretParameters.join('`, `'));
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

/** Prefixes of the dashboard's host, with what the gateway has in their place. A service may have been configured with them. */
const APP_HOST: Readonly<Record<string, string>> = {
  'core-main': 'Leave out `/core-main`: the gateway has this API at `/api/v1`.',
  'core-start': 'Leave out `/core-start`: the gateway has this API at `/api/v1`.',
  fabric:
    'The gateway logs in to Patchworks by itself, and has no path below `/fabric`. Leave out the login, send your gateway key with each request, and call the API at `/api/v1`.',
};

/**
 * The usual cause is a base URL without the path that all of Patchworks' API has, or with a prefix of the dashboard's host. The path is
 * not repeated: it may be a secret. The prefixes are not mapped: the same resource would have two paths, so that a write by one would
 * not invalidate what the other has stored, and a budget or permission would cover one of them.
 */
function unknownRoute(routes: readonly Route[], path: string, [first = '']: readonly string[]): Rejection {
  const instead = Object.hasOwn(APP_HOST, first) ? APP_HOST[first] : undefined;
  if (instead !== undefined) return reject('route_unknown', { detail: instead });
  const servesApi = routes.some(({ match: { segments } }) => `/${segments.slice(0, 2).join('/')}` === API);
  if (!servesApi || `${path}/`.startsWith(`${API}/`)) return reject('route_unknown');
  return reject('route_unknown', {
    detail: `The gateway has no route for this method and path. Paths begin with \`${API}\`.`,
  });
}

const SIGNATURE = [SIGNATURE_PARAMETER];

/** A URL is kept in the logs of proxies and clients. */
function rejectSecret(names: string): Rejection {
  return reject('bad_request', {
    detail: `Leave out the query parameter \`${names}\`: a secret in a URL would stand in logs. The gateway adds it on a route of its own; ask the platform team for its path.`,
    internal: 'a secret in the query',
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

/** The resources of Patchworks directly below `/api/v1`: the values that the label may have, or callers could make as many as they like. */
const RESOURCES = [
  'agents ai api-keys cache-step caches companies connection-pools connectors cross-reference-lookups data-pool',
  'flow-run-logs flow-runs flow-version-deployments flow-versions flows mcp-servers model-notes notifications patchworks',
  'payload-metadata scheduled-flows script-versions scripts systems tracked-data users',
].flatMap((names) => names.split(' '));
const LABELS: ReadonlyMap<string, string> = new Map(RESOURCES.map((name) => [name, `/api/v1/${name}`]));
const OTHER = 'other';

/**
 * The route of a request in metrics, logs and traces: its resource, where the route is one for the whole API (`/api/v1/**`), so that
 * the label tells what uses the quota. A route that is more exact has its own path as label.
 */
export function routeLabel(
  { match, template }: Pick<Route, 'match' | 'template'>,
  segments: readonly string[],
): string {
  const [api, version, resource] = segments;
  const isForAll = match.segments.at(-1) === '**' && match.segments.length <= 3;
  if (!isForAll || api !== 'api' || version !== 'v1' || resource === undefined) return template;
  return LABELS.get(resource) ?? OTHER;
}
