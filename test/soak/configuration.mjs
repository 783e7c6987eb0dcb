// The configuration of the gateways of a soak, scaled with the rate.
import { createHash } from 'node:crypto';

/** Returns the key of a tenant, obviously fake. @param {string} tenant */
export const keyOf = (tenant) => `fake-soak-key-${tenant}`;
export const TENANTS = Array.from({ length: 40 }, (_, i) => `team-${i}`);

/**
 * Requests a minute upstream, by the rate of requests a second. The mix needs some 16 of them, and more for a moment after a
 * definition was changed: with a ceiling as near as that, calm times are none. A surge needs 18 more.
 */
export const quotaOf = (/** @type {number} */ rate) => ({
  limit: Math.round(rate * 24),
  ceiling: Math.round(rate * 22),
  burst: Math.max(60, Math.round(rate)),
});

const MAX_IN_FLIGHT = 512;
/** Connections upstream that a gateway may have, over the two in its configuration. */
export const MOST_UPSTREAM = 2 * MAX_IN_FLIGHT;

const tenant = (/** @type {string} */ id, /** @type {object} */ quota) => ({
  keys: [{ id: 'only', sha256: createHash('sha256').update(keyOf(id)).digest('hex') }],
  quota,
});

/** Rules that allow stale responses, so that faults of the upstream do not fail every read. */
const definitions = (/** @type {string} */ collection) => ({
  match: `GET /api/v1/${collection}/**`,
  ...{ ttl: '30s', staleWhileRevalidate: '30s', staleIfError: '10m', staleIfThrottled: '10m' },
});

/** @param {{ upstream: string, redis: string, rate: number, revision: number }} options `revision`: what a reload changes */
export function configuration({ upstream, redis, rate, revision }) {
  const { ceiling } = quotaOf(rate);
  const ample = { rate: ceiling, burst: ceiling, maxWait: '5s' };
  const login = {
    url: `${upstream}/fabric/api/login`,
    username: 'integrations@example.test',
    password: 'fake-password',
  };
  return {
    listen: {
      traffic: { host: '127.0.0.1', port: 0 },
      admin: { host: '127.0.0.1', port: 0 },
      // Callers of unknown keys come from many addresses.
      trustedProxies: ['127.0.0.1/32'],
    },
    redis: { url: redis },
    accounts: {
      main: {
        quota: quotaOf(rate),
        credentials: [
          { id: 'login', login },
          { id: 'spare', apiKey: 'fake-patchworks-key-spare' },
        ],
      },
    },
    upstreams: {
      core: { origin: upstream, timeout: '5s', maxInFlight: MAX_IN_FLIGHT },
      start: { origin: upstream, timeout: '5s', maxInFlight: MAX_IN_FLIGHT },
    },
    cache: { rules: [definitions('systems'), definitions('scripts'), definitions('connectors')] },
    // A day's keys would be a day's growth of Redis, and no leak.
    idempotency: { ttl: '1m' },
    drain: { delay: '0s', timeout: '20s' },
    tenants: {
      ...Object.fromEntries(TENANTS.map((id) => [id, tenant(id, ample)])),
      // Wants five times what it may, and does not wait.
      greedy: tenant('greedy', { rate: Math.max(1, Math.round(rate * 0.6)), burst: 20, maxWait: '0s' }),
      surge: tenant('surge', { rate: ceiling, burst: ceiling, maxWait: '2s' }),
      reloaded: tenant('reloaded', { rate: 100 + (revision % 2) }),
    },
  };
}
