import {
  type CacheResult,
  filterHeaders,
  type HeaderList,
  headerOf,
  type ProxyResponse,
  type RequestContext,
  respond,
} from '../context.ts';
import { deltaSeconds, parseDirectives, parseHttpDate, secondsOf } from './cache-control.ts';
import { ageOf } from './key.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import type { StoredResponse } from './store.ts';

/** Why a request went to the upstream (RFC 9211 section 2.2). */
export type ForwardReason = 'miss' | 'stale' | 'request' | 'bypass' | 'method';

/** The window in which a stale response is served. */
export type StaleReason = 'stale-while-revalidate' | 'stale-if-error' | 'stale-if-throttled';

/**
 * Cache-Control of a request (RFC 9111 section 5.2.1). max-stale is ignored: the operator and the upstream decide what may be
 * served stale.
 */
export interface RequestDirectives {
  readonly noCache: boolean;
  readonly noStore: boolean;
  readonly onlyIfCached: boolean;
  readonly maxAgeMs: number;
  readonly minFreshMs: number;
}

const NO_DIRECTIVES: RequestDirectives = {
  noCache: false,
  noStore: false,
  onlyIfCached: false,
  maxAgeMs: Number.POSITIVE_INFINITY,
  minFreshMs: 0,
};

export function readRequestDirectives(headers: RequestContext['headers']): RequestDirectives {
  const field = headers['cache-control'];
  if (field === undefined) {
    // Pragma counts only where there is no Cache-Control (section 5.4).
    return headers['pragma'] === undefined || !/\bno-cache\b/i.test(String(headers['pragma']))
      ? NO_DIRECTIVES
      : { ...NO_DIRECTIVES, noCache: true };
  }
  const parsed = parseDirectives(String(field));
  const maxAge = secondsOf(parsed, 'max-age');
  const minFresh = parsed.get('min-fresh');
  return {
    noCache: parsed.has('no-cache'),
    noStore: parsed.has('no-store'),
    onlyIfCached: parsed.has('only-if-cached'),
    maxAgeMs: maxAge === null ? Number.POSITIVE_INFINITY : maxAge * 1000,
    minFreshMs: minFresh === undefined ? 0 : (deltaSeconds(minFresh ?? '') ?? Number.POSITIVE_INFINITY) * 1000,
  };
}

/** A request with a limit on age or freshness does not accept a stale response. */
export function acceptsStale(directives: RequestDirectives): boolean {
  const { noCache, noStore, maxAgeMs, minFreshMs } = directives;
  return (
    directives === NO_DIRECTIVES || (!noCache && !noStore && maxAgeMs === Number.POSITIVE_INFINITY && minFreshMs === 0)
  );
}

/**
 * Requests that are neither served from the cache nor stored: If-Match and If-Unmodified-Since, which only the origin may evaluate
 * (section 4.3.2), and a GET with a body, which is not part of the key.
 */
export function bypassesCache({ body, headers }: Pick<RequestContext, 'body' | 'headers'>): boolean {
  return body !== null || headers['if-match'] !== undefined || headers['if-unmodified-since'] !== undefined;
}

/** Parts are not stored. A fresh response is served in full, which is always allowed; otherwise the upstream serves the part. */
export function isRangeRequest(headers: RequestContext['headers']): boolean {
  return headers['range'] !== undefined || headers['if-range'] !== undefined;
}

export type Usability = 'fresh' | 'stale' | 'request';

/** `request`: the response is fresh, but the request asks for a newer one (RFC 9211 section 2.2). */
export function evaluate(ageMs: number, freshForMs: number, directives: RequestDirectives): Usability {
  if (ageMs >= freshForMs) return 'stale';
  if (directives === NO_DIRECTIVES) return 'fresh';
  if (directives.noCache || directives.noStore) return 'request';
  // Clients ask for validation with `max-age=0`, also within the second in which the response was stored.
  if (ageMs > directives.maxAgeMs || directives.maxAgeMs === 0) return 'request';
  return freshForMs - ageMs < directives.minFreshMs ? 'request' : 'fresh';
}

/** Adds the Cache-Status of a response that came from the upstream. */
export function withCacheStatus(response: ProxyResponse, reason: ForwardReason, stored: boolean): ProxyResponse {
  response.headers.push('Cache-Status', forwardStatus(reason, stored));
  return response;
}

function forwardStatus(reason: ForwardReason, stored: boolean): string {
  return stored ? `patchgate; fwd=${reason}; stored` : `patchgate; fwd=${reason}`;
}

/** Renders stored responses; a 304 where the caller has the response already. */
export interface CachedResponses {
  hit(context: CacheableContext, entry: StoredResponse): ProxyResponse;
  stale(context: CacheableContext, entry: StoredResponse, reason: StaleReason): ProxyResponse;
  /** For a request that waited for the fetch of another one. */
  collapsed(context: CacheableContext, entry: StoredResponse, reason: ForwardReason): ProxyResponse;
  /** For the request whose fetch brought the entry, or confirmed it. */
  forwarded(
    context: CacheableContext,
    entry: StoredResponse,
    forward: { readonly reason: ForwardReason; readonly stored: boolean; readonly upstreamStatus: number | null },
  ): ProxyResponse;
}

export function createCachedResponses({ clock, meter }: Pick<CacheOptions, 'clock' | 'meter'>): CachedResponses {
  const countAvoided = (context: CacheableContext, result: CacheResult & ('hit' | 'stale' | 'collapsed')): void => {
    context.record.cache = result;
    meter.requestAvoided(context.record.tenant, result);
  };
  const render = (context: CacheableContext, entry: StoredResponse, ageMs: number, status: string): ProxyResponse => {
    const unchanged = isNotModified(context.headers, entry);
    // Each response needs its own list: outer middleware adds fields of the tenant to it.
    const headers: HeaderList = unchanged
      ? filterHeaders(entry.headers, (name) => ON_NOT_MODIFIED.has(name))
      : entry.headers.slice();
    if (entry.generatedEtag !== null) headers.push('ETag', entry.generatedEtag);
    // Age is rounded down and ttl up, so that their sum is the lifetime.
    headers.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', status);
    if (unchanged) return respond(304, headers, null);
    // A 204 has neither body nor length (RFC 9110 section 8.6), and an empty Buffer would get a length. A HEAD has the length.
    return respond(entry.status, headers, entry.status === 204 ? null : entry.body);
  };
  const ttlSeconds = (entry: StoredResponse, ageMs: number): number => Math.ceil((entry.freshForMs - ageMs) / 1000);

  return {
    hit(context, entry) {
      countAvoided(context, 'hit');
      const ageMs = ageOf(entry, clock.monotonic());
      return render(context, entry, ageMs, `patchgate; hit; ttl=${ttlSeconds(entry, ageMs)}`);
    },
    stale(context, entry, reason) {
      countAvoided(context, 'stale');
      const ageMs = ageOf(entry, clock.monotonic());
      // -0 is not a number of a structured field.
      return render(context, entry, ageMs, `patchgate; hit; ttl=${ttlSeconds(entry, ageMs) || 0}; detail=${reason}`);
    },
    collapsed(context, entry, reason) {
      countAvoided(context, 'collapsed');
      const ageMs = ageOf(entry, clock.monotonic());
      const status = `patchgate; fwd=${reason}; collapsed; ttl=${ttlSeconds(entry, ageMs) || 0}`;
      return render(context, entry, ageMs, status);
    },
    forwarded(context, entry, { reason, stored, upstreamStatus }) {
      const ageMs = ageOf(entry, clock.monotonic());
      const status = forwardStatus(reason, stored);
      return render(
        context,
        entry,
        ageMs,
        upstreamStatus === null ? status : `${status}; fwd-status=${upstreamStatus}`,
      );
    },
  };
}

const ENTITY_TAGS = /(?:W\/)?"([^"]*)"|([^\s,"]+)/gi;

/**
 * Whether the caller has the stored response already (RFC 9110 section 13.2.2): If-None-Match by weak comparison, and
 * If-Modified-Since only without it.
 */
export function isNotModified(headers: RequestContext['headers'], entry: StoredResponse): boolean {
  if (entry.status !== 200) return false;
  const tags = headers['if-none-match'];
  if (tags !== undefined) {
    const own = opaqueTag(entry.generatedEtag ?? headerOf(entry.headers, 'etag') ?? '');
    if (String(tags).trim() === '*') return true;
    return own !== '' && [...String(tags).matchAll(ENTITY_TAGS)].some((match) => (match[1] ?? match[2]) === own);
  }
  const since = headers['if-modified-since'];
  if (since === undefined) return false;
  const sinceMs = parseHttpDate(String(since));
  // Without Last-Modified, Date is the latest possible modification (section 13.1.3).
  const modified = headerOf(entry.headers, 'last-modified') ?? headerOf(entry.headers, 'date') ?? '';
  const modifiedMs = parseHttpDate(modified);
  return sinceMs !== null && modifiedMs !== null && modifiedMs <= sinceMs;
}

function opaqueTag(tag: string): string {
  return /^(?:W\/)?"([^"]*)"$/i.exec(tag.trim())?.[1] ?? tag.trim();
}

/** The fields of a 304 (RFC 9110 section 15.4.5); the caller has the others already. */
const ON_NOT_MODIFIED: ReadonlySet<string> = new Set([
  'cache-control',
  'content-location',
  'date',
  'etag',
  'expires',
  'last-modified',
  'vary',
]);
