import { createHash } from 'node:crypto';
import { headerOf } from '../context.ts';
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
  const sent: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (!CONDITIONS.has(name.toLowerCase())) sent.push(name, rawHeaders[i + 1] as string);
  }
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
  const replaced = new Set<string>();
  const added: string[] = [];
  for (let i = 0; i < update.length; i += 2) {
    const name = (update[i] as string).toLowerCase();
    if (OF_THE_BODY.has(name)) continue;
    replaced.add(name);
    added.push(update[i] as string, update[i + 1] as string);
  }
  const kept: string[] = [];
  for (let i = 0; i < stored.length; i += 2) {
    const name = stored[i] as string;
    if (!replaced.has(name.toLowerCase())) kept.push(name, stored[i + 1] as string);
  }
  return [...kept, ...added];
}
