import { matchesPath, type Pattern } from '../routing/pattern.ts';

/**
 * What no tenant may call unless its `allow` names it: calls that act on the shared credential or on people.
 * `companies/{id}/manage` switches the company a token acts for, on the server: with a shared credential one caller
 * would switch every caller.
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
 * Hosts that serve more than one application put its name in front: `/fabric/api/login`, `/core-main/api/v1/…`; and PHP's
 * front controller answers under its own name too.
 */
const FRONTS = new Set(['fabric', 'core-main', 'core-start', 'index.php']);

/**
 * The denied pattern that covers a path, or null. Compared as the most forgiving server might read it: a path that is denied
 * for no reason is a 403 for its caller, one that slips through is everybody's account.
 */
export function denylistEntryFor(segments: readonly string[]): readonly string[] | null {
  if (segments.length < 2) return null;
  const path = segments
    .slice(frontsOf(segments))
    .map(plainest)
    .filter((segment) => segment !== '');
  return denied.find((pattern) => matchesPath(pattern, path)) ?? null;
}

/** Whether a pattern writes out every literal segment of the denied one, instead of covering it by a wildcard. */
export function namesLiterally(pattern: Pattern, deniedPattern: readonly string[]): boolean {
  const offset = frontsOf(pattern.segments);
  return deniedPattern.every(
    (segment, index) => segment === '*' || segment === '**' || pattern.segments[index + offset] === segment,
  );
}

function frontsOf(segments: readonly string[]): number {
  let count = 0;
  while (FRONTS.has(segments[count]?.toLowerCase() ?? '')) count += 1;
  return count;
}

const PLAIN = /^[a-z0-9-]*$/;

/** Without case, compatibility forms (`ſ`, full width), what can not be seen, path parameters (`;x`) and a suffix (`.json`). */
function plainest(segment: string): string {
  const lower = segment.toLowerCase();
  if (PLAIN.test(lower)) return lower;
  return lower
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\p{Cc}\p{Cf}\s]/gu, '')
    .replace(/[;.].*$/, '');
}
