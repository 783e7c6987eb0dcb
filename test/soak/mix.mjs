// The requests of a soak: kinds, their shares, and what may come of each while nothing is wrong.
import { keyOf, TENANTS } from './configuration.mjs';

/**
 * @typedef {object} Sent
 * @property {string} kind
 * @property {'fast' | 'upstream'} through separate pools: a request that waits for the upstream must not delay a cache hit
 * @property {string} method
 * @property {string} path
 * @property {Record<string, string>} headers
 * @property {string} [body]
 * @property {string} [shows] text that only the 200 response to this request contains
 * @property {number} [abortMs] the caller disconnects after this time
 * @property {boolean} [keyed] sent again a moment later
 */

/** By kind: share of all requests, and the outcomes that are right in calm times. @type {Record<string, { share: number, right: string[] }>} */
export const KINDS = {
  hit: { share: 0.53, right: ['200'] },
  'not modified': { share: 0.17, right: ['304', '200'] },
  'pass-through': { share: 0.15, right: ['200'] },
  write: { share: 0.03, right: ['200'] },
  'keyed write': { share: 0.015, right: ['200'] },
  rejection: { share: 0.05, right: ['429', '200'] },
  'unknown key': { share: 0.02, right: ['401', '429'] },
  abort: { share: 0.03, right: ['aborted', '200'] },
  edit: { share: 0.0002, right: ['200'] },
};
/** Follows a keyed write. */
export const REPEAT = { kind: 'repeat', right: ['200', '409'] };
export const SURGE = { kind: 'surge', right: ['200', '429'] };
export const SLOW = { kind: 'slow reader', right: ['200'] };

/** @param {string} kind */
export const rightOf = (kind) =>
  KINDS[kind]?.right ?? [REPEAT, SURGE, SLOW].find((each) => each.kind === kind)?.right ?? [];

/** Definitions that are read over and over: 480 of them. */
const READ = [
  { collection: 'systems', ids: 14 },
  { collection: 'connectors', ids: 22 },
  { collection: 'scripts', ids: 17 },
];
const VIEWS = 10;
const upTo = (/** @type {number} */ most) => 1 + Math.floor(Math.random() * most);
const one = (/** @type {readonly any[]} */ list) => list[Math.floor(Math.random() * list.length)];
/** Every tenth flow of the simulator cannot be started. */
const flow = () => Math.floor(Math.random() * 3) * 10 + upTo(9);

let marks = 0;
/** In the body of one write and no other. */
function mark() {
  marks += 1;
  return `${process.pid}-${marks}`;
}
const as = (/** @type {string} */ tenant) => ({ 'x-api-key': keyOf(tenant) });

/** @param {ReadonlyMap<string, string>} tags entity tags by path, as far as they are known @returns {Record<string, () => Sent>} */
export function makersOf(tags) {
  const read = () => {
    const { collection, ids } = one(READ);
    const id = upTo(ids);
    return { path: `/api/v1/${collection}/${id}?view=${upTo(VIEWS)}`, shows: `"id":${id},` };
  };
  const passed = () => {
    const id = upTo(120);
    return { path: `/api/v1/flow-runs/${id}`, shows: `"id":${id},` };
  };
  const start = (/** @type {string} */ kind) => {
    const id = flow();
    /** @type {Sent} */
    const sent = {
      ...{ kind, through: 'upstream', method: 'POST', path: `/api/v1/flows/${id}/start` },
      headers: { ...as(one(TENANTS)), 'content-type': 'application/json' },
      ...{ body: JSON.stringify({ payload: mark() }), shows: `"flow_id":${id},` },
    };
    return sent;
  };
  const get = (/** @type {string} */ kind, /** @type {'fast' | 'upstream'} */ through) => ({
    kind,
    through,
    method: 'GET',
  });
  return {
    hit: () => ({ ...get('hit', 'fast'), ...read(), headers: as(one(TENANTS)) }),
    'not modified': () => {
      const { path, shows } = read();
      const tag = tags.get(path);
      return {
        ...{ ...get('not modified', 'fast'), path, shows },
        headers: { ...as(one(TENANTS)), ...(tag !== undefined && { 'if-none-match': tag }) },
      };
    },
    'pass-through': () => ({ ...get('pass-through', 'upstream'), ...passed(), headers: as(one(TENANTS)) }),
    write: () => start('write'),
    'keyed write': () => {
      const sent = start('keyed write');
      return { ...sent, keyed: true, headers: { ...sent.headers, 'idempotency-key': mark() } };
    },
    rejection: () => ({ ...get('rejection', 'fast'), ...passed(), headers: as('greedy') }),
    // Half of them come from a few addresses, which are blocked soon; each of the others has an address of its own.
    'unknown key': () => ({
      ...get('unknown key', 'fast'),
      path: '/api/v1/systems/1',
      headers: {
        'x-api-key': `fake-unknown-${mark()}`,
        'x-forwarded-for': `10.${Math.random() < 0.5 ? '0.0' : `${upTo(255)}.${upTo(255)}`}.${upTo(4)}`,
      },
    }),
    abort: () => ({ ...get('abort', 'upstream'), ...passed(), headers: as(one(TENANTS)), abortMs: Math.random() * 40 }),
    // The edit invalidates the cached scripts on both gateways.
    edit: () => ({
      ...{ kind: 'edit', through: 'upstream', method: 'PATCH', path: `/api/v1/scripts/${upTo(17)}` },
      headers: { ...as(one(TENANTS)), 'content-type': 'application/json' },
      body: JSON.stringify({ note: mark() }),
    }),
    surge: () => ({ ...get('surge', 'upstream'), ...passed(), headers: as('surge') }),
  };
}

/** A kind by its share. */
export function kindByShare() {
  let left = Math.random() * Object.values(KINDS).reduce((sum, { share }) => sum + share, 0);
  for (const [kind, { share }] of Object.entries(KINDS)) {
    left -= share;
    if (left < 0) return kind;
  }
  return 'hit';
}
