// Configuration of the gateways for the dashboards' test and picture: tenants of several kinds, on two accounts.
import { createHash } from 'node:crypto';

/** Key of a tenant, obviously fake. @param {string} name */
export const keyOf = (name) => `fake-dashboard-key-${name}`;
export const EXPIRED_KEY = 'fake-dashboard-key-expired';
export const EXPORT_ACCOUNT_KEY = 'fake-patchworks-key-export';
const DAY_MS = 86_400_000;

const sha256 = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');
const inDays = (/** @type {number} */ days) => new Date(Date.now() + days * DAY_MS).toISOString();

/** @param {string} name @param {number} days until the key expires */
const key = (name, days) => ({ id: '2026-11', sha256: sha256(keyOf(name)), expires: inDays(days) });

/** @type {Record<string, any>} */
const TENANTS = {
  orders: {
    keys: [key('orders', 150), { id: '2025-05', sha256: sha256(EXPIRED_KEY), expires: '2026-01-31T00:00:00Z' }],
    allow: ['GET /api/v1/**', 'POST /api/v1/flows/*/start/**', 'POST /api/v1/data-pool/**'],
    quota: { burst: 15, maxWait: '2s' },
    budgets: { operations: 5_000 },
  },
  storefront: { keys: [key('storefront', 88)], allow: ['GET /api/v1/**'], quota: { burst: 30, maxWait: '3s' } },
  billing: { keys: [key('billing', 10)], quota: { rate: 90, burst: 20, weight: 2, reserved: 20, maxWait: '5s' } },
  reports: { keys: [key('reports', 240)], allow: ['GET /api/v1/**'], quota: { rate: 120, burst: 20, maxWait: '4s' } },
  // Its bucket is small, and it does not wait: what a service looks like that has outgrown its share.
  // Its limits are tried on real traffic before they hold.
  trial: {
    keys: [key('trial', 170)],
    allow: ['GET /api/v1/**'],
    quota: { rate: 12, burst: 2, maxWait: '0s' },
    enforcement: 'observe',
  },
  legacy: { keys: [key('legacy', 5)], allow: ['GET /api/v1/**'], quota: { rate: 24, burst: 4, maxWait: '0s' } },
};

/**
 * Quotas of the account `main` and of the tenant `orders`. `narrow` is Patchworks as it is; in the `wide` one only `orders` waits
 * and is refused, so that what a test lets happen besides is not held up by a full account.
 */
export const QUOTAS = {
  narrow: { account: { limit: 240, ceiling: 235, burst: 60 }, orders: {} },
  wide: { account: { limit: 2_400, ceiling: 2_350, burst: 200 }, orders: { rate: 400, burst: 5 } },
};

/**
 * @param {{ upstream: string, redis: string, quota: keyof typeof QUOTAS, secondAccount: boolean }} options
 * @returns {Record<string, any>} gateway.yaml, as data
 */
export function configuration({ upstream, redis, quota, secondAccount }) {
  const login = {
    url: `${upstream}/fabric/api/login`,
    username: 'integrations@example.test',
    password: 'fake-password',
  };
  const main = {
    quota: QUOTAS[quota].account,
    budgets: { operations: { match: ['POST /api/v1/flows/*/start/**'], limit: 20_000 } },
    credentials: [
      { id: 'login', login },
      { id: 'spare', apiKey: 'fake-patchworks-key-spare' },
    ],
  };
  const exports = {
    quota: { limit: 120, ceiling: 110, burst: 30 },
    credentials: [{ id: 'primary', apiKey: EXPORT_ACCOUNT_KEY }],
  };
  const core = { account: 'main', origin: upstream, timeout: '5s' };
  const tenants = Object.fromEntries(Object.entries(TENANTS).map(([id, each]) => [id, { account: 'main', ...each }]));
  tenants['orders'].quota = { ...TENANTS['orders'].quota, ...QUOTAS[quota].orders };
  const routes = [
    { match: 'POST /api/v1/flows/*/start/**', upstream: 'start' },
    { match: '* /api/v1/**', upstream: 'core' },
  ];
  return {
    listen: {
      traffic: { host: '127.0.0.1', port: 0, tls: { certFile: 'tls.crt', keyFile: 'tls.key' } },
      admin: { host: '127.0.0.1', port: 0 },
    },
    redis: { url: redis },
    accounts: { main, ...(secondAccount && { exports }) },
    upstreams: {
      core,
      start: core,
      ...(secondAccount && { exports: { account: 'exports', origin: upstream, timeout: '5s' } }),
    },
    identity: {
      issuers: { cluster: { issuer: upstream, audience: 'patchgate', jwks: { url: `${upstream}/_simulator/jwks` } } },
    },
    routes: secondAccount ? [{ match: 'GET /api/v1/systems/**', upstream: 'exports' }, ...routes] : routes,
    cache: {
      rules: [
        { match: 'GET /api/v1/flows/**', ttl: '5s', staleIfError: '1m', staleIfThrottled: '1m' },
        { match: 'GET /api/v1/connectors/**', ttl: '4s', staleWhileRevalidate: '20s', staleIfError: '1m' },
        { match: 'GET /api/v1/scripts/**', ttl: '20s', staleIfThrottled: '1m' },
      ],
    },
    limits: { failedAuth: 1_000 },
    tenants: {
      ...tenants,
      ...(secondAccount && {
        exports: { account: 'exports', keys: [key('exports', 30)], quota: { burst: 20, maxWait: '2s' } },
      }),
    },
  };
}
