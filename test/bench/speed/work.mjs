// The kinds of work, and what is sent for each.
import { createHash } from 'node:crypto';

/** Obviously no secrets: they open only what runs on loopback for these minutes. */
export const TENANT_KEY = 'bench-tenant-key-0000000000000000';
/** The account's own credential; the upstream tells which key it saw. */
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
/** The body of a POST: 1 KB. */
const SENT = JSON.stringify({ payload: 'x'.repeat(1_000) });
export const LARGE_BYTES = 256 * 1024 * 1024;

/**
 * @typedef {'hit' | 'pass' | 'post' | 'stream'} Kind
 * @typedef {{
 *   kind: Kind, title: string, method: 'GET' | 'POST', path: string, body: string | null,
 *   reachesUpstream: boolean, large: boolean, closely: boolean,
 * }} Work `closely`: targets hang on it, so its rounds are twice as long, and latency is measured at a constant rate
 */

const NEVER_STORED = '/api/v1/notifications';
const get = { method: /** @type {const} */ ('GET'), body: null, reachesUpstream: true, large: false, closely: true };

/** @type {readonly Work[]} */
export const WORK = [
  { ...get, kind: 'hit', title: 'Cached hit', path: '/api/v1/flows', reachesUpstream: false },
  { ...get, kind: 'pass', title: 'Pass-through GET', path: NEVER_STORED },
  { ...get, kind: 'post', title: 'POST of 1 KB', method: 'POST', path: NEVER_STORED, body: SENT, closely: false },
  {
    ...get,
    ...{ kind: 'stream', title: 'Download of 256 MiB', path: '/api/v1/payload-metadata/1/download' },
    ...{ large: true, closely: false },
  },
];

/** @param {Work} work @returns {import('./ask.mjs').Question} */
export const questionOf = ({ method, path, body }) => ({
  ...{ method, path, body },
  headers: {
    authorization: `Bearer ${TENANT_KEY}`,
    accept: 'application/json',
    ...(body !== null && { 'content-type': 'application/json' }),
  },
});
