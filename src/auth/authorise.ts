import { extend, type Middleware, noteWouldReject, type Rejection, reject } from '../context.ts';
import type { Meter } from '../ports.ts';
import { type Route, type Routed, routeLabel, showRequest } from '../routing/match-route.ts';
import { matches, matchesPath } from '../routing/pattern.ts';
import { type Rewrite, rewriteSegments } from '../routing/rewrite.ts';
import { type Authenticated, nameOf } from './authenticate.ts';
import type { Tenant } from './tenant.ts';

export interface Authorised {
  /** The route in an account of the tenant. */
  readonly route: Route;
}

/**
 * Selects the first route in an account of the tenant, so that no tenant uses another account's credential, and checks `allow` of the tenant
 * and of its key. A tenant that is observed passes its own `allow`, never the denylist and the `allow` of a key.
 */
export function authorise<E extends Routed & Authenticated>(options: {
  readonly meter: Pick<Meter, 'wouldReject'>;
}): Middleware<E, E & Authorised> {
  return (next) => async (context) => {
    const route = context.candidates.find(({ upstream }) => context.tenant.accounts.includes(upstream.account));
    if (route === undefined) return rejectAccount(context, context.tenant);
    context.record.route = routeLabel(route, context.segments);
    context.record.account = route.upstream.account;
    const { tenant, key, method, segments } = context;
    // Before the tenant's own list: a request that is rejected anyway is not counted as a prediction.
    if (key.allow?.some((pattern) => matches(pattern, method, segments)) === false)
      return forbidden(context, nameOf({ ...key, tenant }), route.rewrite);
    if (!isAllowed(tenant, method, segments, route.rewrite)) {
      if (tenant.enforcement === 'enforce' || isDenied(segments, route.rewrite))
        return forbidden(context, `Tenant "${tenant.id}"`, route.rewrite);
      noteWouldReject(context, 'route_forbidden', options.meter);
    }
    return next(extend(context, { route }));
  };
}

function forbidden({ method, path, segments }: Routed, subject: string, rewrite: Rewrite | null): Rejection {
  const reason = isDenied(segments, rewrite)
    ? 'logins, keys and users of the account are closed unless a permission names them'
    : 'its permissions, which `GET /_gateway/whoami` lists, do not include it';
  const detail = `${subject} may not call ${showRequest(method, path)}: ${reason}. Ask the platform team for permission.`;
  return reject('route_forbidden', { detail });
}

function rejectAccount({ method, path }: Routed, { id, accounts }: Tenant): Rejection {
  const own = `${accounts.length === 1 ? 'the account' : 'the accounts'} ${accounts.join(', ')}`;
  const detail = `Tenant "${id}" may not call ${showRequest(method, path)}: it belongs to another account, and the tenant uses ${own}. Ask the platform team for permission.`;
  return reject('route_forbidden', { detail });
}

/**
 * A path on the denylist needs an `allow` pattern that names it literally: a wildcard that covers it is not enough. The path at the
 * upstream counts as well as that of the caller: a rewrite must not lead around the denylist.
 */
export function isAllowed(
  tenant: Tenant,
  method: string,
  segments: readonly string[],
  rewrite: Rewrite | null = null,
): boolean {
  const denied = denylistEntryFor(segments);
  const deniedBehind = behind(segments, rewrite);
  if (tenant.allow === null) return denied === null && deniedBehind === null;
  return tenant.allow.some(
    (pattern) =>
      matches(pattern, method, segments) &&
      (denied === null || namesLiterally(pattern.segments, denied)) &&
      (deniedBehind === null || namesLiterally(sentSegments(pattern.segments, rewrite) ?? [], deniedBehind)),
  );
}

/** The path is on the denylist. */
function isDenied(segments: readonly string[], rewrite: Rewrite | null = null): boolean {
  return denylistEntryFor(segments) !== null || behind(segments, rewrite) !== null;
}

/** The denied pattern that covers the path at the upstream, or null. */
function behind(segments: readonly string[], rewrite: Rewrite | null): readonly string[] | null {
  return rewrite === null ? null : denylistEntryFor(sentSegments(segments, rewrite) ?? []);
}

/** Null: they have another beginning than those that the rewrite replaces. */
function sentSegments(segments: readonly string[], rewrite: Rewrite | null): readonly string[] | null {
  return rewrite === null ? segments : rewriteSegments(rewrite, segments);
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
function namesLiterally(segments: readonly string[], deniedPattern: readonly string[]): boolean {
  const offset = prefixLength(segments);
  return deniedPattern.every(
    (segment, index) => segment === '*' || segment === '**' || segments[index + offset] === segment,
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
