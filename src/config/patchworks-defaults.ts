import type { CacheRule } from '../cache/options.ts';
import type { Pattern } from '../routing/pattern.ts';
import { parsePattern } from '../routing/pattern.ts';

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

const [MINUTE_MS, HOUR_MS] = [60_000, 60 * 60_000];

/**
 * Everything that is stored, and for how long: definitions, by how often people change them. Paths are exact, so that what may be
 * below them, such as the variables of a flow, is not.
 */
const stored: readonly (readonly [path: string, ttlMs: number])[] = [
  ['/api/v1/patchworks/marketplace-apps', HOUR_MS],
  ['/api/v1/patchworks/marketplace-apps/*', HOUR_MS],
  ['/api/v1/patchworks/system-templates', HOUR_MS],
  ['/api/v1/patchworks/system-templates/*', HOUR_MS],
  ['/api/v1/script-versions/*', 10 * MINUTE_MS],
  ['/api/v1/scripts', MINUTE_MS],
  ['/api/v1/scripts/*', MINUTE_MS],
  ['/api/v1/cross-reference-lookups', MINUTE_MS],
  ['/api/v1/cross-reference-lookups/*', MINUTE_MS],
  ['/api/v1/flow-version-deployments', MINUTE_MS],
  ['/api/v1/flow-version-deployments/packages', MINUTE_MS],
  ['/api/v1/flows', MINUTE_MS / 2],
  ['/api/v1/flows/*', MINUTE_MS / 2],
];

/**
 * Values of `include` that add secrets, customer data or data of a user to a definition: variables, certificates and signed URLs, and
 * all that has them.
 */
const unless = {
  include: [
    ...['variables', 'certificate', 'webhooks', 'callbacks', 'steps', 'connectors', 'systems', 'instances'],
    ...['virtualEnvironments', 'flowRuns', 'runs', 'logs', 'payloads', 'rows', 'users'],
  ],
};

/**
 * Not stored, whatever Patchworks may say: secrets (connectors, systems, steps, variables, keys, all of the identity service), customer
 * data (payloads, logs, data pools, caches, rows, conversations), data of a user, and live state.
 */
export const neverStored: readonly string[] = [
  ...['flow-versions', 'virtual-environments', 'connectors', 'systems', 'connection-pools', 'instances', 'api-keys'],
  ...['users', 'companies', 'flow-runs', 'flow-run-logs', 'payload-metadata', 'scheduled-flows', 'data-pool'],
  ...['tracked-data', 'caches', 'cache-step', 'model-notes', 'notifications', 'agents', 'ai', 'mcp-servers'],
].map((resource) => `/api/v1/${resource}`);

/** Not stored below what is. */
const below = ['flows', 'flow-version-deployments', 'cross-reference-lookups'].map((name) => `/api/v1/${name}`);

export const cacheRuleDefaults: readonly CacheRule[] = [
  ...stored.map(
    ([path, ttlMs]): CacheRule => ({
      match: known(`GET ${path}`),
      store: true,
      ttlMs,
      // The ttl is exact, but an old definition is better than an error or a rejection.
      staleWhileRevalidateMs: 0,
      staleIfErrorMs: HOUR_MS,
      staleIfThrottledMs: 10 * MINUTE_MS,
      unless,
      vary: [],
      tags: [],
    }),
  ),
  ...[...below, ...neverStored, '/api/v2', '/fabric'].map(
    (path): CacheRule => ({ match: known(`GET ${path}/**`), store: false }),
  ),
];

/** A write to one of these may change the others: a deployment `deployedVersion` of a flow, a variable its `variables_count`. */
const flowDefinitions = ['/api/v1/flows/**', '/api/v1/flow-versions/**', '/api/v1/flow-version-deployments/**'];

export const invalidateDefaults: readonly { after: Pattern; drop: readonly string[] }[] = [
  ...flowDefinitions.map((path) => ({ after: known(`* ${path}`), drop: flowDefinitions })),
  { after: known('* /api/v1/scripts/**'), drop: ['/api/v1/scripts/**', '/api/v1/script-versions/**'] },
  // Rows are counted in their lookup.
  { after: known('* /api/v1/cross-reference-lookups/**'), drop: ['/api/v1/cross-reference-lookups/**'] },
];

/** Parses a pattern of this file; a wrong one fails every test, as the module does not load. */
function known(text: string): Pattern {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.reason}`);
  return parsed.pattern;
}
