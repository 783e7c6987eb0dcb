import type { RequestContext } from '../context.ts';
import { deltaSeconds, parseDirectives, secondsOf } from './cache-control.ts';

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
