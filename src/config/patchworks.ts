import type { Pattern } from '../routing/pattern.ts';
import { parsePattern } from '../routing/pattern.ts';
import type { CacheRule } from './model.ts';

/**
 * Defaults for Patchworks: hosts, routes and what may be cached for how long. Written as they would be in gateway.yaml, so
 * that docs/configuration.md can show them as they are.
 */
export const upstreamDefaults: Readonly<Record<string, { origin: string; timeoutMs: number }>> = {
  core: { origin: 'https://core.wearepatchworks.com', timeoutMs: 30_000 },
  start: { origin: 'https://start.wearepatchworks.com', timeoutMs: 60_000 },
};

export const OTHER_TIMEOUT_MS = 30_000;

/** The path sets of core and start do not collide, so one base URL serves both. */
export const routeDefaults: readonly { match: string; upstream: string; rewriteLinks: boolean }[] = [
  { match: 'POST /api/v1/flows/*/start/**', upstream: 'start', rewriteLinks: false },
  { match: 'POST /api/v1/flows/*/manual/**', upstream: 'start', rewriteLinks: false },
  // A download is a file, to be passed on to the byte.
  { match: 'GET /api/v1/payload-metadata/*/download', upstream: 'core', rewriteLinks: false },
  { match: '* /api/v1/**', upstream: 'core', rewriteLinks: true },
];

/** Live state, what belongs to a user, and what is large and volatile. */
const never = [
  'GET /api/v1/flow-runs/**',
  'GET /api/v1/flow-run-logs/**',
  'GET /api/v1/payload-metadata/**',
  'GET /api/v1/scheduled-flows/**',
  'GET /api/v1/notifications/**',
  'GET /api/v1/agents/**',
  'GET /api/v1/mcp-servers/**',
  'GET /api/v1/data-pool/**',
  'GET /api/v1/cache-step/**',
];

/** Definitions, by how often people change them. */
const slow: readonly (readonly [string, number])[] = [
  ['GET /api/v1/patchworks/**', 60 * 60_000],
  ['GET /api/v1/systems/**', 10 * 60_000],
  ['GET /api/v1/connectors/**', 5 * 60_000],
  ['GET /api/v1/flow-version-deployments/**', 60_000],
  ['GET /api/v1/cross-reference-lookups/**', 60_000],
  ['GET /api/v1/caches/**', 60_000],
  ['GET /api/v1/script-versions/**', 10 * 60_000],
  ['GET /api/v1/scripts/**', 60_000],
  ['GET /api/v1/flow-versions/**', 30_000],
  ['GET /api/v1/flows/**', 30_000],
];

export const cacheRuleDefaults: readonly CacheRule[] = [
  ...never.map((match): CacheRule => ({ match: known(match), store: false })),
  ...slow.map(
    ([match, ttlMs]): CacheRule => ({
      match: known(match),
      store: true,
      ttlMs,
      // A ttl is kept to the second; but an old definition is better than an error or a refusal.
      staleWhileRevalidateMs: 0,
      staleIfErrorMs: 60 * 60_000,
      staleIfThrottledMs: 10 * 60_000,
      vary: [],
      tags: [],
    }),
  ),
];

export const invalidateDefaults: readonly { after: Pattern; drop: readonly string[] }[] = [
  {
    after: known('* /api/v1/flows/**'),
    drop: ['/api/v1/flows/**', '/api/v1/flow-versions/**', '/api/v1/flow-version-deployments/**'],
  },
  { after: known('* /api/v1/scripts/**'), drop: ['/api/v1/scripts/**', '/api/v1/script-versions/**'] },
];

/** A pattern of this file's own: that it parses is shown by the module being loaded at all. */
function known(text: string): Pattern {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.reason}`);
  return parsed.pattern;
}
