import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
// The built product, with the types of its sources.
const { loadSettings, renderProblems } = /** @type {typeof import('../../src/config/load.ts')} */ (
  await import(inRoot('dist/config/load.js'))
);
const { createGateway } = /** @type {typeof import('../../src/gateway/gateway.ts')} */ (
  await import(inRoot('dist/gateway/gateway.js'))
);

/**
 * Key of the tenant and credential of the account alike. Four tests send `Authorization: FOO` and want to see it at the
 * origin: a second key that differs from the first would be rejected, and the gateway sends the account's in its place.
 */
export const KEY = 'FOO';

/** More than any run takes: nothing here is about quota. */
const PLENTY = 9_999_999;

/**
 * The gateway as a plain shared cache: no rules, so RFC 9111 decides alone; nothing dropped but what a write names.
 * @param {string} origin
 */
const configuration = (origin) => ({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  accounts: {
    main: {
      quota: { limit: PLENTY + 1, ceiling: PLENTY, burst: PLENTY },
      credentials: [{ id: 'only', apiKey: KEY }],
    },
  },
  // Only the cache is under test: failures pass through, without retries or a circuit breaker.
  upstreams: { core: { origin, retries: { max: 0 }, breaker: { enabled: false } }, start: { origin } },
  routes: [{ match: '* /**', upstream: 'core', rewriteLinks: false }],
  cache: { rules: [], invalidate: [] },
  limits: { requestsPerSecond: 10_000_000, failedAuth: 1_000_000 },
  log: { level: 'fatal' },
  tenants: {
    suite: {
      keys: [{ id: 'only', sha256: createHash('sha256').update(KEY).digest('hex') }],
      allow: ['* /**'],
      quota: { burst: PLENTY, maxWait: '30s' },
    },
  },
});

/**
 * @param {string} origin
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startGateway(origin) {
  const text = JSON.stringify(configuration(origin));
  const loaded = await loadSettings({ path: 'conformance.yaml', env: {}, readFile: async () => text });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  const gateway = createGateway({ settings: loaded.settings, logTo: { write: () => {} } });
  const started = await gateway.start();
  if (!started.ok) throw new Error(started.reason);
  return { url: `http://127.0.0.1:${started.traffic.port}`, close: () => gateway.close() };
}
