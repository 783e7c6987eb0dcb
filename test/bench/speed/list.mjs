// Who takes part, in the order of the tables.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gateway } from './contestants/gateway.mjs';
import { haproxy } from './contestants/haproxy.mjs';
import { openFilesNginx, plainNginx } from './contestants/nginx.mjs';
import { fastify, rawProxy, rawStatic } from './contestants/node.mjs';
import { hasCompiler, varnish } from './contestants/varnish.mjs';

/** @typedef {import('./contestants/contestant.mjs').Contestant} Contestant */

/**
 * @param {{ redis: number, against: string | null, wanted: readonly string[] | null, env: NodeJS.ProcessEnv }} options
 * @returns {Contestant[]}
 */
export function contestantsOf({ redis, against, wanted, env }) {
  const embedded = gateway({
    id: 'gateway',
    name: '**patchgate**, embedded state',
    does: 'everything on, an access line a request',
  });
  if (against !== null) return [embedded, ...builtAt(against), ...[rawStatic, rawProxy].filter(isWanted)];
  return [
    embedded,
    gateway({ id: 'gateway-redis', name: '**patchgate**, state in Redis', does: 'the same', redis }),
    gateway({
      id: 'gateway-quiet',
      name: '**patchgate**, embedded state, no access lines',
      does: '`log.level: warn`',
      logLevel: 'warn',
      kinds: ['hit', 'pass'],
    }),
    rawStatic,
    rawProxy,
    fastify,
    plainNginx,
    openFilesNginx,
    haproxy,
    ...(hasCompiler(env) ? [varnish] : []),
  ].filter(isWanted);

  /** @param {Contestant} each */
  function isWanted({ id }) {
    return wanted === null || wanted.includes(id) || id === 'gateway';
  }
}

/**
 * Whom a table would make one look for, and why they are not there.
 * @param {NodeJS.ProcessEnv} env
 */
export const leftOut = (env) => [
  'fastify: it has no cache, key or limit of its own.',
  'HAProxy: its 304 from the cache carries a Content-Length, which wrk takes for a body to come.',
  hasCompiler(env)
    ? 'Varnish: it limits nothing without a module, and is no place for large downloads.'
    : '**Varnish is missing from this run**: it has its configuration compiled, and there is no C compiler here.',
];

/** Another build, twice: how far the two are apart is what a difference has to exceed. @param {string} folder */
function builtAt(folder) {
  const checkout = resolve(folder);
  const main = join(checkout, 'dist/main.js');
  if (!existsSync(main)) throw new Error(`${main} is missing: run \`node scripts/build.mjs\` there`);
  return [
    gateway({ id: 'gateway-old', name: `patchgate of ${folder}`, does: 'the same', checkout }),
    gateway({ id: 'gateway-control', name: `patchgate of ${folder}, again`, does: 'the same', checkout }),
  ];
}
