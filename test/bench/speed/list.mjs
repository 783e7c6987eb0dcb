// The contestants, in the order of the tables.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gateway } from './contestants/gateway.mjs';
import { nginx } from './contestants/nginx.mjs';
import { fastify, honoStatic, rawProxy, rawStatic } from './contestants/node.mjs';

/** @typedef {import('./contestants/contestant.mjs').Contestant} Contestant */

/**
 * @param {{ redis: number, against: string | null, wanted: readonly string[] | null }} options
 * @returns {Contestant[]}
 */
export function contestantsOf({ redis, against, wanted }) {
  const embedded = gateway({
    id: 'gateway',
    name: '**patchgate**, embedded state',
    does: 'everything on, an access line for each request',
  });
  const isWanted = (/** @type {Contestant} */ { id }) => wanted === null || wanted.includes(id) || id === 'gateway';
  if (against !== null) return [embedded, ...builtAt(against), ...[rawStatic, rawProxy].filter(isWanted)];
  return [
    embedded,
    gateway({ id: 'gateway-redis', name: '**patchgate**, state in Redis', does: 'the same', redis }),
    gateway({
      id: 'gateway-quiet',
      name: '**patchgate**, embedded state, no access log',
      does: '`log.level: warn`',
      logLevel: 'warn',
      kinds: ['hit', 'pass'],
    }),
    rawStatic,
    honoStatic,
    rawProxy,
    fastify,
    nginx,
  ].filter(isWanted);
}

/** Another build, twice: a difference counts if it exceeds that between the two. @param {string} folder */
function builtAt(folder) {
  const checkout = resolve(folder);
  const main = join(checkout, 'dist/main.js');
  if (!existsSync(main)) throw new Error(`${main} is missing: run \`node scripts/build.mjs\` there`);
  return [
    gateway({ id: 'gateway-old', name: `patchgate of ${folder}`, does: 'the same', checkout }),
    gateway({ id: 'gateway-control', name: `patchgate of ${folder}, again`, does: 'the same', checkout }),
  ];
}
