// The configuration of a fleet's gateways. It has two accounts. `plenty` is never short of quota: its callers show whether the
// fleet is normal. `tight` uses its ceiling up within the run: the upstream's record shows whether the ceiling holds.
import { createHash } from 'node:crypto';

/**
 * Slots of `tight` in any 60 s. The burst allows all of them at once, and all but `LEFT` are used before the fault. A slot that is
 * forgotten after that, or granted twice, exceeds the ceiling as soon as the bucket (three tokens a second) has a few tokens.
 */
export const CEILING = 180;
export const LEFT = 4;
export const TENANTS = { plenty: ['a', 'b', 'c'], tight: ['x', 'y'] };
export const keyOf = (/** @type {string} */ tenant) => `fake-chaos-key-${tenant}`;
const hash = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');

/**
 * Some four times what its callers want. A server that begins anew writes an entry for each slot that others may hold: at 90,000 it
 * took half a second of a busy machine, longer than the deadline of a command.
 */
const PLENTY = { limit: 40_000, ceiling: 30_000, burst: 5_000 };

const CREDENTIALS = { plenty: 'fake-chaos-account-plenty', tight: 'fake-chaos-account-tight' };

/**
 * From the fault on, the upstream allows `tight` more than it can send, and tells nothing of its count. It would otherwise replace the
 * slots that a gateway forgot, as external usage, and the ceiling must hold without that. Before the fault, a new account starts with
 * the upstream's count.
 */
export const GENEROUS = { limit: PLENTY.limit, limitHeaders: /** @type {const} */ ({ kind: 'none' }) };

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
      ...TENANTS.plenty.map((id) => tenant(id, 'plenty', { rate: PLENTY.ceiling, burst: PLENTY.burst, maxWait: '2s' })),
      // Without a free slot, `x` is rejected at once and `y` waits.
      tenant('x', 'tight', { burst: CEILING, maxWait: '0s' }),
      tenant('y', 'tight', { burst: CEILING, maxWait: '1s' }),
    ]),
  };
}
