// What the gateways of a fleet are told. Two accounts: one that is never short, by which callers see whether all is normal, and
// one whose ceiling is used up within the run, by which upstream sees whether it holds.
import { createHash } from 'node:crypto';

/**
 * Of `tight`, in any 60 s. All of it may be sent at once, and all but `LEFT` is before the fault: whatever is forgotten after that, or
 * given out twice, is above the ceiling as soon as the bucket, three a second, has a few tokens.
 */
export const CEILING = 180;
export const LEFT = 4;
export const TENANTS = { plenty: ['a', 'b', 'c'], tight: ['x', 'y'] };
export const keyOf = (/** @type {string} */ tenant) => `fake-chaos-key-${tenant}`;
const hash = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');

const PLENTY = { limit: 1_000_000, ceiling: 900_000, burst: 50_000 };

const CREDENTIALS = { plenty: 'fake-chaos-account-plenty', tight: 'fake-chaos-account-tight' };

/**
 * From the fault on upstream allows `tight` more than it can send: what it says of its own count would otherwise make good what a gateway
 * has forgotten, as use by others, and the ceiling has to hold without that. Before, what it says is what a new account starts with.
 */
export const GENEROUS = { limit: PLENTY.limit };

/** @type {import('../../src/simulator/options.ts').SimulatorOptions} */
export const SIMULATOR = {
  accounts: {
    plenty: { apiKeys: { plenty: CREDENTIALS.plenty }, limit: PLENTY.limit },
    tight: { apiKeys: { tight: CREDENTIALS.tight } },
  },
  switches: { echo: true, responseLatency: { kind: 'exponential', minMs: 1, meanMs: 10, maxMs: 200 } },
};

/**
 * @param {import('./types.ts').Addresses} ways @param {string} redisTimeout
 * @returns {Record<string, unknown>}
 */
export function configuration({ port, upstreamPort, redis }, redisTimeout) {
  const origin = `http://127.0.0.1:${upstreamPort}`;
  const upstream = (/** @type {string} */ account) => ({ account, origin, timeout: '3s' });
  const tenant = (/** @type {string} */ id, /** @type {string} */ account, /** @type {object} */ quota) => [
    id,
    { account, keys: [{ id: 'only', sha256: hash(keyOf(id)) }], quota },
  ];
  return {
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: 0 } },
    redis: { ...redis, timeout: redisTimeout },
    accounts: {
      plenty: { quota: PLENTY, credentials: [{ id: 'plenty', apiKey: CREDENTIALS.plenty }] },
      tight: {
        quota: { limit: 240, ceiling: CEILING, burst: CEILING },
        credentials: [{ id: 'tight', apiKey: CREDENTIALS.tight }],
      },
    },
    upstreams: { core: upstream('plenty'), start: upstream('plenty'), tight: upstream('tight') },
    routes: [
      { match: 'POST /api/v1/flows/*/start/**', upstream: 'start' },
      { match: '* /api/v1/**', upstream: 'core' },
      { match: '* /api/v1/**', upstream: 'tight' },
    ],
    cache: { rules: [{ match: 'GET /api/v1/systems/**', ttl: '2s' }] },
    drain: { delay: '200ms', timeout: '5s' },
    log: { level: 'info' },
    tenants: Object.fromEntries([
      ...TENANTS.plenty.map((id) => tenant(id, 'plenty', { rate: 900_000, burst: 50_000, maxWait: '2s' })),
      // One that is refused at once, and one that waits.
      tenant('x', 'tight', { burst: CEILING, maxWait: '0s' }),
      tenant('y', 'tight', { burst: CEILING, maxWait: '1s' }),
    ]),
  };
}
