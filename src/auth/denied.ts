import { matchesPath, type Pattern } from '../routing/pattern.ts';

/**
 * What no tenant may call unless its `allow` names it: calls that act on the shared credential or on people.
 * `companies/{id}/manage` switches the company a token acts for, on the server: with a shared credential one caller
 * would switch every caller.
 */
export const deniedPaths: readonly string[] = [
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

const denied = deniedPaths.map((path) => path.slice(1).split('/'));

/** Hosts that serve more than one application put its name in front: `/fabric/api/login`, `/core-main/api/v1/…`. */
const APPLICATIONS = new Set(['fabric', 'core-main', 'core-start']);

/** The denied pattern that covers a path, or null. Case does not matter: the upstream may not care for it. */
export function deniedToAll(segments: readonly string[]): readonly string[] | null {
  const first = segments[0]?.toLowerCase() ?? '';
  if (segments.length < 2) return null;
  const own = segments.map((segment) => segment.toLowerCase());
  const path = APPLICATIONS.has(first) ? own.slice(1) : own;
  return denied.find((pattern) => matchesPath(pattern, path)) ?? null;
}

/** Whether a pattern writes out every literal segment of the denied one, instead of covering it by a wildcard. */
export function namesLiterally(pattern: Pattern, deniedPattern: readonly string[]): boolean {
  const offset = APPLICATIONS.has(pattern.segments[0] ?? '') ? 1 : 0;
  return deniedPattern.every(
    (segment, index) => segment === '*' || segment === '**' || pattern.segments[index + offset] === segment,
  );
}
