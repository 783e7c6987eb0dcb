// The gateway, from this checkout or another, with everything on that is on by default.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask } from '../ask.mjs';
import { freePort } from '../rig.mjs';
import { QUOTA } from '../upstream.mjs';
import { ACCOUNT_KEY, sha256, TENANT_KEY } from '../work.mjs';

export const HERE = fileURLToPath(new URL('../../../../', import.meta.url));
/** Guards as wide as they go, for all load comes from one address and one tenant. They stay on, and count. */
const WIDE = { requestsPerSecond: 10_000_000, failedAuth: 1_000_000 };

/**
 * @param {{ port: number, admin: number, upstream: string, redis: number | null, logLevel: string }} options
 */
export function configuration({ port, admin, upstream, redis, logLevel }) {
  return {
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: admin } },
    ...(redis !== null && { redis: { url: `redis://127.0.0.1:${redis}`, prefix: `bench-${port}` } }),
    accounts: { main: { quota: QUOTA, credentials: [{ id: 'primary', apiKey: ACCOUNT_KEY }] } },
    upstreams: { core: { origin: upstream } },
    routes: [{ match: '* /api/v1/**', upstream: 'core' }],
    cache: {
      rules: [
        { match: 'GET /api/v1/flows/**', ttl: '24h' },
        { match: 'GET /api/v1/**', store: false },
      ],
    },
    limits: WIDE,
    log: { level: logLevel },
    tenants: { team: { keys: [{ id: 'bench', sha256: sha256(TENANT_KEY) }], quota: { burst: QUOTA.burst } } },
  };
}

/**
 * @param {{ id: string, name: string, does: string, checkout?: string, redis?: number, logLevel?: string, kinds?: readonly import('../work.mjs').Kind[] }} options
 * @returns {import('./contestant.mjs').Contestant}
 */
export function gateway({ id, name, does, checkout = HERE, redis, logLevel = 'info', kinds }) {
  return {
    id,
    name,
    does,
    kinds: kinds ?? ['hit', 'pass', 'post', 'stream'],
    holdsCredential: true,
    start: async ({ rig, upstream, folder }) => {
      const [port, admin] = [await freePort(), await freePort()];
      const file = join(folder, 'gateway.yaml');
      writeFileSync(
        file,
        JSON.stringify(configuration({ port, admin, upstream: upstream.url, redis: redis ?? null, logLevel })),
      );
      const main = join(checkout, 'dist/main.js');
      const running = rig.start('proxy', process.execPath, [main, 'serve', '--config', file], {
        NODE_ENV: 'production',
      });
      const question = { method: 'GET', path: '/readyz', headers: {}, body: null };
      const ready = async () => ((await ask(admin, question)).status === 200 ? /** @type {const} */ (true) : null);
      /** A replica that has lost Redis goes on by itself, which is another row of the table. */
      const pretends = async () => {
        const { body } = await ask(admin, { ...question, path: '/metrics' });
        return /^patchgate_redis_fallback_active 0$/m.test(body.toString())
          ? null
          : 'it has lost Redis and goes on alone';
      };
      return { ...running, port, ready, pretends };
    },
  };
}
