import type { Pattern } from '../routing/pattern.ts';
import { parsePattern } from '../routing/pattern.ts';
import type { CacheRule } from './settings.ts';

// The defaults for Patchworks, in the form of gateway.yaml: docs/configuration.md shows them.

export const upstreamDefaults: Readonly<Record<string, { origin: string; timeoutMs: number }>> = {
  core: { origin: 'https://core.wearepatchworks.com', timeoutMs: 30_000 },
  start: { origin: 'https://start.wearepatchworks.com', timeoutMs: 60_000 },
};

export const OTHER_TIMEOUT_MS = 30_000;

/** The paths of core and start do not collide: one base URL serves both. */
export const routeDefaults: readonly { match: string; upstream: string }[] = [
  { match: 'POST /api/v1/flows/*/start/**', upstream: 'start' },
  { match: 'POST /api/v1/flows/*/manual/**', upstream: 'start' },
  // Its latency says nothing of other reads: it has a label of its own in the metrics.
  { match: 'GET /api/v1/payload-metadata/*/download', upstream: 'core' },
  { match: '* /api/v1/**', upstream: 'core' },
];

/** Live state, data of single users, and large volatile data. */
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

/** Definitions; the ttl follows how often people change them. */
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
      // The ttl is exact, but an old definition is better than an error or a rejection.
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

/** Parses a pattern of this file; a wrong one fails every test, as the module does not load. */
function known(text: string): Pattern {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.reason}`);
  return parsed.pattern;
}
