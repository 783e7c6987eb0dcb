// The kinds of work. A key opens what its tenant may do; `small` may send one request a minute, and is refused.
import { createHash } from 'node:crypto';

/** Obviously no secrets: they open only what runs on loopback for these minutes. */
export const KEYS = {
  team: 'bench-tenant-key-0000000000000000',
  small: 'bench-small-key-00000000000000000',
  unknown: 'bench-unknown-key-000000000000000',
};
/** What the account's own credential is called; the upstream tells which one it saw. */
export const ACCOUNT_KEY = 'bench-account-key-000000000000000';
export const sha256 = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');

/** 2 KB of JSON, as a page of a list of Patchworks is. */
export const BODY = JSON.stringify({
  data: Array.from({ length: 16 }, (_, i) => ({
    id: 1000 + i,
    name: `Orders to warehouse ${i}`,
    is_enabled: i % 3 !== 0,
    company_id: 42,
    updated_at: '2026-11-20T09:15:00.000000Z',
  })),
  meta: { current_page: 1, per_page: 16, total: 16 },
});
/** What a POST carries: 1 KB. */
export const SENT = JSON.stringify({ payload: 'x'.repeat(1_000) });
export const LARGE_BYTES = 256 * 1024 * 1024;

/**
 * @typedef {'hit' | 'not-modified' | 'pass' | 'post' | 'refused' | 'unknown' | 'stream'} Kind
 * @typedef {{
 *   kind: Kind, title: string, method: 'GET' | 'POST', path: string, key: string, body: string | null,
 *   conditional: boolean, status: number, reachesUpstream: boolean, large: boolean, closely: boolean,
 * }} Work `closely`: targets hang on it, so its rounds are twice as long, and latency is measured at a constant rate
 */

const LISTED = '/api/v1/flows';
const NEVER_STORED = '/api/v1/notifications';
const usual = {
  method: /** @type {const} */ ('GET'),
  key: KEYS.team,
  body: null,
  conditional: false,
  status: 200,
  large: false,
  closely: false,
};

/** @type {readonly Work[]} */
export const WORK = [
  { ...usual, kind: 'hit', title: 'Cached hit', path: LISTED, reachesUpstream: false, closely: true },
  {
    ...usual,
    kind: 'not-modified',
    title: 'If-None-Match answered 304',
    path: LISTED,
    conditional: true,
    status: 304,
    reachesUpstream: false,
  },
  { ...usual, kind: 'pass', title: 'Pass-through GET', path: NEVER_STORED, reachesUpstream: true, closely: true },
  {
    ...usual,
    kind: 'post',
    title: 'POST of 1 KB',
    method: 'POST',
    path: NEVER_STORED,
    body: SENT,
    reachesUpstream: true,
  },
  {
    ...usual,
    kind: 'refused',
    title: 'Over quota, refused with 429',
    path: NEVER_STORED,
    key: KEYS.small,
    status: 429,
    reachesUpstream: false,
  },
  {
    ...usual,
    kind: 'unknown',
    title: 'Unknown key, refused with 401',
    path: NEVER_STORED,
    key: KEYS.unknown,
    status: 401,
    reachesUpstream: false,
  },
  {
    ...usual,
    kind: 'stream',
    title: 'Download of 256 MiB',
    path: '/api/v1/payload-metadata/1/download',
    large: true,
    reachesUpstream: true,
  },
];

/**
 * @param {Work} work @param {string | null} etag of the answer it already has
 * @returns {import('./ask.mjs').Question}
 */
export function questionOf(work, etag) {
  return {
    method: work.method,
    path: work.path,
    headers: {
      authorization: `Bearer ${work.key}`,
      accept: 'application/json',
      ...(work.body !== null && { 'content-type': 'application/json' }),
      ...(work.conditional && etag !== null && { 'if-none-match': etag }),
    },
    body: work.body,
  };
}
