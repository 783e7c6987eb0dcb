// Node without a gateway: what can be reached, and what a usual choice reaches.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../rig.mjs';
import { accepts } from './contestant.mjs';

/**
 * @typedef {import('./contestant.mjs').Contestant} Contestant
 * @typedef {import('./contestant.mjs').Stage} Stage
 */

/** Node sets these itself, as it does for the gateway. */
const OWN = new Set(['date', 'connection', 'keep-alive']);

/**
 * @param {Pick<Contestant, 'id' | 'name' | 'does' | 'kinds'>} about @param {string} program @param {(stage: Stage) => string} argument
 * @returns {Contestant}
 */
const node = (about, program, argument) => ({
  ...about,
  holdsCredential: false,
  start: async (stage) => {
    const port = await freePort();
    const file = fileURLToPath(new URL(`../programs/${program}`, import.meta.url));
    const args = [file, String(port), argument(stage)];
    const running = stage.rig.start('proxy', process.execPath, args, { NODE_ENV: 'production' });
    return { ...running, port, ready: () => accepts(port) };
  },
});

/** Writes the response of the gateway to a file. @param {Stage} stage */
function answerFile({ sample, folder }) {
  if (sample === null) throw new Error('raw node answers what the gateway answered, and that was not asked');
  const headers = sample.rawHeaders.flatMap((name, i, all) =>
    i % 2 === 0 && !OWN.has(name.toLowerCase()) ? [name, all[i + 1] ?? ''] : [],
  );
  const file = join(folder, 'answer.json');
  writeFileSync(file, JSON.stringify({ status: sample.status, headers, body: sample.body.toString('base64') }));
  return file;
}

const oneAnswer = {
  does: 'one answer made once: status, header lines and body of the gateway',
  kinds: /** @type {const} */ (['hit']),
};
const passesOn = {
  does: 'passes on; no key, no quota, no credential',
  kinds: /** @type {const} */ (['pass', 'post', 'stream']),
};

export const rawStatic = node({ id: 'raw', name: 'raw `node:http`', ...oneAnswer }, 'raw-static.mjs', answerFile);
export const honoStatic = node({ id: 'hono', name: 'bare Hono', ...oneAnswer }, 'hono-static.mjs', answerFile);

const origin = (/** @type {Stage} */ { upstream }) => upstream.url;
export const rawProxy = node(
  { id: 'raw-proxy', name: 'raw `node:http` + undici', ...passesOn },
  'raw-proxy.mjs',
  origin,
);
export const fastify = node(
  { id: 'fastify', name: 'fastify + `@fastify/http-proxy`', ...passesOn },
  'fastify-proxy.mjs',
  origin,
);
