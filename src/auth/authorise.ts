import { extend, type Middleware, noteWouldReject, type Rejection, reject } from '../context.ts';
import type { Meter } from '../ports.ts';
import { type Route, type Routed, showRequest } from '../routing/match-route.ts';
import { matches, matchesPath, type Pattern } from '../routing/pattern.ts';
import { routeLabel } from '../routing/route-label.ts';
import { type Authenticated, nameOf } from './authenticate.ts';
import type { Tenant } from './key-store.ts';

export interface Authorised {
  /** The route in the tenant's own account. */
  readonly route: Route;
}

/**
 * Selects the route of the tenant's account, so that no tenant uses another account's credential, and checks `allow` of the tenant
 * and of its key. A tenant that is observed passes its own `allow`, never the denylist and the `allow` of a key.
 */
export function authorise<E extends Routed & Authenticated>(options: {
  readonly meter: Pick<Meter, 'wouldReject'>;
}): Middleware<E, E & Authorised> {
  return (next) => async (context) => {
    const route = context.candidates.find((candidate) => candidate.upstream.account === context.tenant.account);
    if (route === undefined) {
      const detail = `No route for ${showRequest(context.method, context.path)} leads to the account of tenant "${context.tenant.id}".`;
      return reject('route_unknown', { detail });
    }
    context.record.route = routeLabel(route, context.segments);
    context.record.account = route.upstream.account;
    const { tenant, key, method, segments } = context;
    // Before the tenant's own list: a request that is rejected anyway is not counted as a prediction.
    if (key.allow?.some((pattern) => matches(pattern, method, segments)) === false)
      return forbidden(context, nameOf({ ...key, tenant }));
    if (!isAllowed(tenant, method, segments)) {
      if (tenant.enforcement === 'enforce' || isDenied(segments)) return forbidden(context, `Tenant "${tenant.id}"`);
      noteWouldReject(context, 'route_forbidden', options.meter);
    }
    return next(extend(context, { route }));
  };
}

function forbidden({ method, path, segments }: Routed, subject: string): Rejection {
  const reason = isDenied(segments)
    ? 'logins, keys and users of the account are closed unless a permission names them'
    : 'its permissions, which `GET /_gateway/whoami` lists, do not include it';
  const detail = `${subject} may not call ${showRequest(method, path)}: ${reason}. Ask the platform team for permission.`;
  return reject('route_forbidden', { detail });
}

/** A path on the denylist needs an `allow` pattern that names it literally: a wildcard that covers it is not enough. */
export function isAllowed(tenant: Tenant, method: string, segments: readonly string[]): boolean {
  const denied = denylistEntryFor(segments);
  if (tenant.allow === null) return denied === null;
  return tenant.allow.some(
    (pattern) => matches(pattern, method, segments) && (denied === null || namesLiterally(pattern, denied)),
  );
}

/** The path is on the denylist. */
export function isDenied(segments: readonly string[]): boolean {
  return denylistEntryFor(segments) !== null;
}

/**
 * Paths that no tenant may call unless its `allow` names them: calls that act on the shared credential or on people.
 * `companies/{id}/manage` switches the company of a token on the server: with a shared credential, one caller would switch all.
 */
export const denylist: readonly string[] = [
  '/api/*/login/**',
  '/api/*/logout/**',
  '/api/*/register/**',
  '/api/*/password/**',
  '/api/*/api-keys/**',
  '/api/*/users/**',
  '/api/*/my/user/**',
  '/api/*/companies/*/manage/**',
  '/api/login/**',
];

const denied = denylist.map((path) => path.slice(1).split('/'));

/**
 * Prefixes of applications that share a host: `/fabric/api/login`, `/core-main/api/v1/…`. PHP's front controller also responds
 * under its own name.
 */
const PREFIXES = new Set(['fabric', 'core-main', 'core-start', 'index.php']);

/**
 * The denied pattern that covers a path, or null. The comparison reads the path as the most lenient server might: a path that is
 * denied by mistake is a 403 for one caller, a path that passes by mistake is the whole account.
 */
function denylistEntryFor(segments: readonly string[]): readonly string[] | null {
  const path: string[] = [];
  for (let i = prefixLength(segments); i < segments.length; i++) {
    const segment = simplify(segments[i] as string);
    if (segment !== '') path.push(segment);
  }
  return denied.find((pattern) => matchesPath(pattern, path)) ?? null;
}

/** True if the pattern has every literal segment of the denied one, instead of covering it by a wildcard. */
function namesLiterally(pattern: Pattern, deniedPattern: readonly string[]): boolean {
  const offset = prefixLength(pattern.segments);
  return deniedPattern.every(
    (segment, index) => segment === '*' || segment === '**' || pattern.segments[index + offset] === segment,
  );
}

function prefixLength(segments: readonly string[]): number {
  let count = 0;
  while (PREFIXES.has(segments[count]?.toLowerCase() ?? '')) count += 1;
  return count;
}

const PLAIN = /^[a-z0-9-]*$/;

/** Without case, compatibility forms (`ſ`, full width), invisible characters, path parameters (`;x`) and a suffix (`.json`). */
function simplify(segment: string): string {
  const lower = segment.toLowerCase();
  if (PLAIN.test(lower)) return lower;
  return lower
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\p{Cc}\p{Cf}\s]/gu, '')
    .replace(/[;.].*$/s, '');
}
