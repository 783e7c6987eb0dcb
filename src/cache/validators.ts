import { createHash } from 'node:crypto';
import { headerOf, type RequestContext } from '../context.ts';
import { parseHttpDate } from './http-date.ts';
import type { StoredResponse } from './store.ts';

/** A strong entity tag over the bytes of a body, for upstreams that name none (RFC 9110 section 8.8.3). */
export function etagOf(body: Buffer): string {
  return `"pg-${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
}

const TAG = /(?:W\/)?"([^"]*)"|([^\s,"]+)/gi;

/**
 * Whether the caller already has what is stored (RFC 9110 section 13.2.2): If-None-Match by weak comparison, and only
 * without it If-Modified-Since.
 */
export function isNotModified(headers: RequestContext['headers'], stored: StoredResponse): boolean {
  if (stored.status !== 200) return false;
  const tags = headers['if-none-match'];
  if (tags !== undefined) {
    const own = opaque(stored.generatedEtag ?? headerOf(stored.headers, 'etag') ?? '');
    if (String(tags).trim() === '*') return true;
    return own !== '' && [...String(tags).matchAll(TAG)].some((match) => (match[1] ?? match[2]) === own);
  }
  const since = headers['if-modified-since'];
  if (since === undefined) return false;
  const then = parseHttpDate(String(since));
  // Without a Last-Modified the Date is the latest it can be (section 13.1.3).
  const modified = parseHttpDate(headerOf(stored.headers, 'last-modified') ?? headerOf(stored.headers, 'date') ?? '');
  return then !== null && modified !== null && modified <= then;
}

function opaque(tag: string): string {
  return /^(?:W\/)?"([^"]*)"$/i.exec(tag.trim())?.[1] ?? tag.trim();
}

/** What a 304 tells besides its status (RFC 9110 section 15.4.5); the rest the caller has already. */
const ON_NOT_MODIFIED: ReadonlySet<string> = new Set([
  'cache-control',
  'content-location',
  'date',
  'etag',
  'expires',
  'last-modified',
  'vary',
]);

export function notModifiedHeaders(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (ON_NOT_MODIFIED.has(name.toLowerCase())) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}

const CONDITIONS: ReadonlySet<string> = new Set(['if-none-match', 'if-modified-since']);

/**
 * The request as it goes upstream for everybody's sake: without the caller's own conditions, whose 304 would be of use to
 * nobody else, and with those of the answer that is held.
 */
export function withValidators(rawHeaders: readonly string[], held: StoredResponse | null): string[] {
  const sent: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (!CONDITIONS.has(name.toLowerCase())) sent.push(name, rawHeaders[i + 1] as string);
  }
  const tag = held === null ? undefined : headerOf(held.headers, 'etag');
  const modified = held === null ? undefined : headerOf(held.headers, 'last-modified');
  if (tag !== undefined) sent.push('If-None-Match', tag);
  if (modified !== undefined && parseHttpDate(modified) !== null) sent.push('If-Modified-Since', modified);
  return sent;
}

/** Fields of a 304 that say nothing of the body that is held (RFC 9111 section 3.2). */
const OF_THE_BODY: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-length',
  'content-md5',
  'content-range',
  'etag',
]);

/** The headers of what is held, freshened by a 304: its fields take the place of those of the same name. */
export function mergeHeaders(held: readonly string[], arrived: readonly string[]): string[] {
  const newer = new Set<string>();
  const added: string[] = [];
  for (let i = 0; i < arrived.length; i += 2) {
    const name = (arrived[i] as string).toLowerCase();
    if (OF_THE_BODY.has(name)) continue;
    newer.add(name);
    added.push(arrived[i] as string, arrived[i + 1] as string);
  }
  const kept: string[] = [];
  for (let i = 0; i < held.length; i += 2) {
    const name = held[i] as string;
    if (!newer.has(name.toLowerCase())) kept.push(name, held[i + 1] as string);
  }
  return [...kept, ...added];
}
