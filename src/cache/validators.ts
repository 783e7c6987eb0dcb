import { createHash } from 'node:crypto';
import { filterHeaders, headerOf } from '../context.ts';
import { parseHttpDate } from './http-date.ts';
import type { StoredResponse } from './store.ts';

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
