import { createHash } from 'node:crypto';
import { filterHeaders, type HeaderList, headerOf } from '../context.ts';
import { isSent, REMOVED_FROM_RESPONSE } from '../upstream/headers.ts';
import { type Fields, parseHttpDate } from './cache-control.ts';
import type { StoredResponse } from './store.ts';

/**
 * Fields that belong to one response and must not reach another caller: those of the connection (RFC 9111 section 3.1), cookies and
 * credentials, the quota left at that time, ids of the request; and those that each response computes anew.
 *
 * Set-Cookie is removed and does not prevent storing: the gateway passes no cookies, so no response depends on one.
 */
const NEVER_STORED: ReadonlySet<string> = new Set([
  ...REMOVED_FROM_RESPONSE,
  ...['proxy-authentication-info', 'proxy-authorization', 'www-authenticate', 'x-api-key'],
  ...['retry-after', 'traceparent', 'tracestate', 'server-timing', 'age', 'content-length'],
]);

/** RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-Rate-Limit-Reset and their relatives. */
const RATE_LIMIT = /^(?:x-)?rate-?limit/;

/** The headers of a stored response. The length is set when it is sent, because links in the body may be rewritten. */
export function storedHeaders(list: readonly string[], fields: Fields): HeaderList {
  const hops = new Set((fields.get('connection') ?? '').split(',').map((name) => name.trim().toLowerCase()));
  return filterHeaders(list, (name) => !NEVER_STORED.has(name) && !RATE_LIMIT.test(name) && !hops.has(name));
}

/**
 * The request fields that select this response, lower case and sorted (RFC 9111 section 4.1). No response depends on a field that is not
 * sent, such as the caller's credential, cookies and address, and it must not be part of a key. Accept is in every key.
 */
export function selectingFields(fields: Fields): string[] {
  const names = (fields.get('vary') ?? '').split(',').map((name) => name.trim().toLowerCase());
  // Some servers compress without a Vary: a caller that cannot decode the body must not get it.
  if (fields.has('content-encoding')) names.push('accept-encoding');
  return [...new Set(names)].filter((name) => name !== '' && name !== 'accept' && isSent(name)).sort();
}

/** A strong entity tag of a body, for upstreams that send none (RFC 9110 section 8.8.3). */
export function etagOf(body: Buffer): string {
  return `"pg-${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
}

const CONDITIONS: ReadonlySet<string> = new Set(['if-none-match', 'if-modified-since']);

/**
 * The headers of a fetch whose response is shared: without the caller's conditions, because no other caller could use their 304,
 * and with those of the existing response.
 */
export function withValidators(rawHeaders: readonly string[], existing: StoredResponse | null): string[] {
  const sent = filterHeaders(rawHeaders, (name) => !CONDITIONS.has(name));
  if (existing === null) return sent;
  const tag = headerOf(existing.headers, 'etag');
  const modified = headerOf(existing.headers, 'last-modified');
  if (tag !== undefined) sent.push('If-None-Match', tag);
  if (modified !== undefined && parseHttpDate(modified) !== null) sent.push('If-Modified-Since', modified);
  return sent;
}

/** Fields of a 304 that do not describe the stored body (RFC 9111 section 3.2). */
const OF_THE_BODY: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-length',
  'content-md5',
  'content-range',
  'etag',
]);

/** The stored headers after a 304: its fields replace stored ones of the same name. */
export function mergeHeaders(stored: readonly string[], update: readonly string[]): string[] {
  const added = filterHeaders(update, (name) => !OF_THE_BODY.has(name));
  const replaced = new Set(added.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase()));
  return [...filterHeaders(stored, (name) => !replaced.has(name)), ...added];
}
