import type { RequestContext } from '../context.ts';
import { deltaSeconds, parseDirectives, secondsOf } from './cache-control.ts';

/**
 * What a request's Cache-Control asks of the cache (RFC 9111 section 5.2.1). max-stale is not read: what may be served stale
 * is for the operator and the upstream to say.
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
  const directives = parseDirectives(String(field));
  const maxAge = secondsOf(directives, 'max-age');
  const minFresh = directives.get('min-fresh');
  return {
    noCache: directives.has('no-cache'),
    noStore: directives.has('no-store'),
    onlyIfCached: directives.has('only-if-cached'),
    maxAgeMs: maxAge === null ? Number.POSITIVE_INFINITY : maxAge * 1000,
    minFreshMs: minFresh === undefined ? 0 : (deltaSeconds(minFresh ?? '') ?? Number.POSITIVE_INFINITY) * 1000,
  };
}

/** Whoever asks for an age or for freshness does not want anything stale. */
export function acceptsStale(wishes: RequestDirectives): boolean {
  const { noCache, noStore, maxAgeMs, minFreshMs } = wishes;
  return (
    wishes === NO_DIRECTIVES || (!noCache && !noStore && maxAgeMs === Number.POSITIVE_INFINITY && minFreshMs === 0)
  );
}

/**
 * Requests that the cache has no part in: neither answered nor stored.
 *
 * If-Match and If-Unmodified-Since: only the origin may judge them (section 4.3.2). A GET with a body: what it says is not
 * in the key, and the answer would be served to those who did not say it.
 */
export function bypassesCache({ body, headers }: Pick<RequestContext, 'body' | 'headers'>): boolean {
  return body !== null || headers['if-match'] !== undefined || headers['if-unmodified-since'] !== undefined;
}

/** No parts are kept. A fresh answer is given in full, which is always a right answer; else upstream is asked for the part. */
export function isRangeRequest(headers: RequestContext['headers']): boolean {
  return headers['range'] !== undefined || headers['if-range'] !== undefined;
}

export type Usability = 'fresh' | 'stale' | 'request';

/** `request`: it is fresh, but the request wants something newer than that (RFC 9211 section 2.2). */
export function evaluate(ageMs: number, freshForMs: number, wishes: RequestDirectives): Usability {
  if (ageMs >= freshForMs) return 'stale';
  if (wishes === NO_DIRECTIVES) return 'fresh';
  if (wishes.noCache || wishes.noStore) return 'request';
  // `max-age=0` is how clients ask for validation, also within the second in which the answer was stored.
  if (ageMs > wishes.maxAgeMs || wishes.maxAgeMs === 0) return 'request';
  return freshForMs - ageMs < wishes.minFreshMs ? 'request' : 'fresh';
}
