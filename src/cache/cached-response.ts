import { Readable } from 'node:stream';
import {
  filterHeaders,
  type HeaderList,
  headerOf,
  type ProxyResponse,
  type RequestContext,
  type Result,
  respond,
} from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import { parseHttpDate } from './cache-control.ts';
import { ageOf, isStillValid } from './key.ts';
import type { CacheableContext, CacheOptions, ForwardReason, Miss, RequestDirectives } from './options.ts';
import type { StoredResponse } from './store.ts';

type FallbackReason = 'stale-if-error' | 'stale-if-throttled';

/** A request with a limit on age or freshness does not accept a stale response. */
export function acceptsStale(directives: RequestDirectives): boolean {
  const { noCache, noStore, maxAgeMs, minFreshMs } = directives;
  return !noCache && !noStore && maxAgeMs === Number.POSITIVE_INFINITY && minFreshMs === 0;
}

type Usability = 'fresh' | 'stale' | 'request';

/** `request`: the response is fresh, but the request asks for a newer one (RFC 9211 section 2.2). */
export function evaluate(ageMs: number, freshForMs: number, directives: RequestDirectives): Usability {
  if (ageMs >= freshForMs) return 'stale';
  if (directives.noCache || directives.noStore) return 'request';
  // Clients ask for validation with `max-age=0`, also within the second in which the response was stored.
  if (ageMs > directives.maxAgeMs || directives.maxAgeMs === 0) return 'request';
  return freshForMs - ageMs < directives.minFreshMs ? 'request' : 'fresh';
}

/** The Cache-Status of a response that came from the upstream. */
export function forwardStatus(reason: ForwardReason, more = ''): string {
  return `patchgate; fwd=${reason}${more}`;
}

/** Renders stored responses; a 304 where the caller has the response already. */
export class CachedResponses {
  readonly #options: CacheOptions;

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  hit(context: CacheableContext, entry: StoredResponse): ProxyResponse {
    return this.#avoided(context, entry, 'hit', 'patchgate; hit');
  }

  stale(
    context: CacheableContext,
    entry: StoredResponse,
    reason: FallbackReason | 'stale-while-revalidate',
  ): ProxyResponse {
    return this.#avoided(context, entry, 'stale', 'patchgate; hit', `; detail=${reason}`);
  }

  /** For a request that waited for the fetch of another one. */
  collapsed(context: CacheableContext, entry: StoredResponse, reason: ForwardReason): ProxyResponse {
    return this.#avoided(context, entry, 'collapsed', forwardStatus(reason, '; collapsed'));
  }

  /** For the request whose fetch brought the entry, or confirmed it. */
  forwarded(context: CacheableContext, entry: StoredResponse, status: string): ProxyResponse {
    return render(context, entry, ageOf(entry, this.#options.clock.monotonic()), status);
  }

  /** The stale response that replaces a failed fetch within its windows; null if there is none. */
  fallback(context: CacheableContext, miss: Miss, result: Result): ProxyResponse | null {
    const { clock, failing } = this.#options;
    const { fetchKey, existing, reason, directives } = miss;
    const fallback = fallbackReasonFor(result);
    if (fallback === null) return null;
    if (fallback === 'stale-if-error') failing.add(fetchKey, FAILING_TTL_MS);
    if (existing === null || reason !== 'stale' || !acceptsStale(directives)) return null;
    const { staleIfErrorMs, staleIfThrottledMs } = existing.stale;
    const staleMs = ageOf(existing, clock.monotonic()) - existing.freshForMs;
    if (staleMs >= (fallback === 'stale-if-error' ? staleIfErrorMs : staleIfThrottledMs)) return null;
    if (!isStillValid(this.#options, context, existing)) return null;
    if (result.kind === 'response' && result.body instanceof Readable) result.body.destroy();
    return this.stale(context, existing, fallback);
  }

  #avoided(
    context: CacheableContext,
    entry: StoredResponse,
    by: 'hit' | 'stale' | 'collapsed',
    status: string,
    detail = '',
  ): ProxyResponse {
    context.record.cache = by;
    this.#options.meter.requestAvoided(context.record.tenant, by);
    const ageMs = ageOf(entry, this.#options.clock.monotonic());
    // Age is rounded down and ttl up, so that their sum is the lifetime. -0 is not a number of a structured field.
    const ttl = Math.ceil((entry.freshForMs - ageMs) / 1000) || 0;
    return render(context, entry, ageMs, `${status}; ttl=${ttl}${detail}`);
  }
}

function render(context: CacheableContext, entry: StoredResponse, ageMs: number, status: string): ProxyResponse {
  const unchanged = isNotModified(context.headers, entry);
  // Each response needs its own list: outer middleware adds fields of the tenant to it.
  const headers: HeaderList = unchanged
    ? filterHeaders(entry.headers, (name) => ON_NOT_MODIFIED.has(name))
    : entry.headers.slice();
  if (entry.generatedEtag !== null) headers.push('ETag', entry.generatedEtag);
  headers.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', status);
  if (unchanged) return respond(304, headers, null);
  // A 204 has neither body nor length (RFC 9110 section 8.6), and an empty Buffer would get a length. A HEAD has the length.
  return respond(entry.status, headers, entry.status === 204 ? null : entry.body);
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

/** Why a stale response may replace this result; null for a result that is passed on in any case. */
export function fallbackReasonFor(result: Result): FallbackReason | null {
  if (result.kind === 'response') return result.status >= 500 ? 'stale-if-error' : null;
  return FALLBACK_REASONS[result.code] ?? null;
}

const FALLBACK_REASONS: Readonly<Partial<Record<ProblemCode, FallbackReason>>> = {
  upstream_unreachable: 'stale-if-error',
  upstream_protocol: 'stale-if-error',
  upstream_timeout: 'stale-if-error',
  upstream_credentials_rejected: 'stale-if-error',
  breaker_open: 'stale-if-error',
  state_unavailable: 'stale-if-error',
  tenant_quota: 'stale-if-throttled',
  account_quota: 'stale-if-throttled',
  budget_exhausted: 'stale-if-throttled',
  queue_timeout: 'stale-if-throttled',
  upstream_cooldown: 'stale-if-throttled',
};

/** How long a key counts as failing: no request waits for its refresh, and none is started in the background. */
export const FAILING_TTL_MS = 10_000;
