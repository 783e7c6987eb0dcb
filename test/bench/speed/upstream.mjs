// Starts the servers behind the contestants: an nginx with fixed responses and the headers of Patchworks, and a Redis.
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { ask, until } from './ask.mjs';
import { nginxConf, startNginx } from './nginx.mjs';
import { freePort } from './rig.mjs';
import { ACCOUNT_KEY, BODY, LARGE_BYTES } from './work.mjs';

/** @typedef {{ port: number, url: string, requests: () => Promise<number>, stop: () => Promise<void> }} Upstream */

/** Far above what is sent in a minute, so that no contestant is held by it. */
export const QUOTA = { limit: 10_000_000, ceiling: 9_990_000, burst: 5_000_000 };

/** @param {import('./rig.mjs').Rig} rig @returns {Promise<Upstream>} */
export async function startUpstream(rig) {
  const port = await freePort();
  const large = join(rig.scratch, 'large.bin');
  // A hole: its pages are zeros from memory, so no disk takes part.
  writeFileSync(large, '');
  truncateSync(large, LARGE_BYTES);
  const folder = join(rig.scratch, 'upstream');
  const common = [
    `add_header X-RateLimit-Limit ${QUOTA.limit};`,
    `add_header X-RateLimit-Remaining ${QUOTA.limit - 1};`,
    'add_header X-Saw $saw;',
  ].join(' ');
  const server = await startNginx(rig, {
    on: 'load',
    folder,
    conf: nginxConf({
      folder,
      http: `
  default_type application/json;
  map $http_authorization $saw { default other; "${ACCOUNT_KEY}" account; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /requests { stub_status; }
    location = /api/v1/flows {
      ${common} add_header ETag '"one"'; add_header Cache-Control max-age=86400;
      return 200 '${BODY}';
    }
    location = /api/v1/notifications { ${common} add_header Cache-Control no-store; return 200 '${BODY}'; }
    location = /api/v1/payload-metadata/1/download {
      ${common} add_header Cache-Control no-store; default_type application/octet-stream; alias ${large};
    }
  }`,
    }),
  });
  const question = { method: 'GET', path: '/requests', headers: {}, body: null };
  /** Requests it has had, these questions included. */
  const requests = async () => {
    const { body } = await ask(port, question);
    return Number(/^\s*\d+ \d+ (\d+)/m.exec(body.toString())?.[1]);
  };
  await until(requests, { withinMs: 5_000, everyMs: 5, what: () => `the upstream: ${server.said()}` });
  return { port, url: `http://127.0.0.1:${port}`, requests, stop: server.stop };
}

/** @param {import('./rig.mjs').Rig} rig @returns {Promise<number>} its port */
export async function startRedis(rig) {
  const port = await freePort();
  rig.start('load', 'redis-server', [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--dir',
    rig.scratch,
    '--save',
    '',
  ]);
  const client = new Redis({ port, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on('error', () => {});
  await client.ping();
  client.disconnect();
  return port;
}
