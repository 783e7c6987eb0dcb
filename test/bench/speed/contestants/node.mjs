// Node without a gateway: what can be reached, and what a usual choice reaches.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../rig.mjs';
import { accepts } from './contestant.mjs';

/** @typedef {import('./contestant.mjs').Contestant} Contestant */

const program = (/** @type {string} */ name) => fileURLToPath(new URL(`../programs/${name}`, import.meta.url));
const env = { NODE_ENV: 'production' };
/** Node sets these itself, as it does for the gateway. */
const OWN = new Set(['date', 'connection', 'keep-alive']);

/** @param {import('./contestant.mjs').Stage} stage @param {string} file @param {readonly string[]} args */
async function node({ rig }, file, args) {
  const port = await freePort();
  const running = rig.start('proxy', process.execPath, [program(file), String(port), ...args], env);
  return { ...running, port, ready: () => accepts(port) };
}

/** @type {Contestant} */
export const rawStatic = {
  id: 'raw',
  name: 'raw `node:http`, the same bytes',
  does: 'one answer made once: status, header lines and body of the gateway',
  kinds: ['hit', 'not-modified', 'refused', 'unknown'],
  holdsCredential: false,
  timed: true,
  start: async (stage) => {
    const { sample, folder } = stage;
    if (sample === null) throw new Error('raw node answers what the gateway answered, and that was not asked');
    const headers = sample.rawHeaders.flatMap((name, i, all) =>
      i % 2 === 0 && !OWN.has(name.toLowerCase()) ? [name, all[i + 1] ?? ''] : [],
    );
    const file = join(folder, 'answer.json');
    writeFileSync(file, JSON.stringify({ status: sample.status, headers, body: sample.body.toString('base64') }));
    return node(stage, 'raw-static.mjs', [file]);
  },
};

/** @type {Contestant} */
export const rawProxy = {
  id: 'raw-proxy',
  name: 'raw `node:http` + undici',
  does: 'passes on; no key, no quota, no credential',
  kinds: ['pass', 'post', 'stream'],
  holdsCredential: false,
  timed: true,
  start: (stage) => node(stage, 'raw-proxy.mjs', [stage.upstream.url]),
};

/** @type {Contestant} */
export const fastify = {
  id: 'fastify',
  name: 'fastify + `@fastify/http-proxy`',
  does: 'passes on; no key, no quota, no credential',
  kinds: ['pass', 'post', 'stream'],
  holdsCredential: false,
  timed: true,
  start: (stage) => node(stage, 'fastify-proxy.mjs', [stage.upstream.url]),
};
