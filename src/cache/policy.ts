import CachePolicy from 'http-cache-semantics';
import type { EpochMs } from '../clock.ts';
import type { Received } from '../exchange.ts';
import { matchesMethod, matchesPath, type Pattern } from '../routing/pattern.ts';
import { type Directives, deltaSeconds, parseDirectives, secondsOf } from './directives.ts';
import { parseHttpDate } from './http-date.ts';
import type { Fields } from './stored.ts';

/** First match wins. */
export type CacheRule =
  | { readonly match: Pattern; readonly store: false }
  | { readonly match: Pattern; readonly store: true; readonly ttlMs: number };

/** HEAD is served from what GET has stored, so both follow the rule for GET. */
export function ruleFor(rules: readonly CacheRule[], segments: readonly string[]): CacheRule | null {
  for (const rule of rules) {
    if (matchesMethod(rule.match, 'GET') && matchesPath(rule.match.segments, segments)) return rule;
  }
  return null;
}

/** What a request's Cache-Control asks of the cache (RFC 9111 section 5.2.1). max-stale is not read: nothing stale is served. */
export interface Wishes {
  readonly noCache: boolean;
  readonly noStore: boolean;
  readonly onlyIfCached: boolean;
  readonly maxAgeMs: number;
  readonly minFreshMs: number;
}

const NO_WISHES: Wishes = {
  noCache: false,
  noStore: false,
  onlyIfCached: false,
  maxAgeMs: Number.POSITIVE_INFINITY,
  minFreshMs: 0,
};

export function readWishes(headers: Received['headers']): Wishes {
  const field = headers['cache-control'];
  if (field === undefined) {
    // Pragma counts only where there is no Cache-Control (section 5.4).
    return headers['pragma'] === undefined || !/\bno-cache\b/i.test(String(headers['pragma']))
      ? NO_WISHES
      : { ...NO_WISHES, noCache: true };
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

/**
 * Requests that the cache has no part in: neither answered nor stored.
 *
 * Range and If-Range: no parts are kept. If-Match and If-Unmodified-Since: only the origin may judge them (section
 * 4.3.2). A GET with a body: what it says is not in the key, and the answer would be served to those who did not say it.
 * If-None-Match and If-Modified-Since are not here: a full answer is always a right answer to them.
 */
export function isBeyondCache({ body, headers }: Pick<Received, 'body' | 'headers'>): boolean {
  return (
    body !== null ||
    headers['range'] !== undefined ||
    headers['if-range'] !== undefined ||
    headers['if-match'] !== undefined ||
    headers['if-unmodified-since'] !== undefined
  );
}

export type Usable = 'fresh' | 'stale' | 'request';

/** `request`: it is fresh, but the request wants something newer than that (RFC 9211 section 2.2). */
export function judge(ageMs: number, freshForMs: number, wishes: Wishes): Usable {
  if (ageMs >= freshForMs) return 'stale';
  if (wishes === NO_WISHES) return 'fresh';
  if (wishes.noCache || wishes.noStore) return 'request';
  // `max-age=0` is how clients ask for validation, also within the second in which the answer was stored.
  if (ageMs > wishes.maxAgeMs || wishes.maxAgeMs === 0) return 'request';
  return freshForMs - ageMs < wishes.minFreshMs ? 'request' : 'fresh';
}

export interface Lifetime {
  readonly initialAgeMs: number;
  /** Counted from `initialAgeMs` before the answer arrived; always above it. */
  readonly freshForMs: number;
}

/** An answer whose headers have just arrived. */
export interface Arrival {
  readonly status: number;
  readonly fields: Fields;
  readonly now: EpochMs;
  /** Null where that was not measured. */
  readonly upstreamMs: number | null;
}

/**
 * How long an answer to a GET may be served, or null for never.
 *
 * A rule's TTL takes the place of what the upstream says, and counts from the arrival: the operator's "at most 30 s
 * after it was fetched" holds also behind a cache that adds an Age. It covers 200 alone: no rule makes an error,
 * a part or a redirect last. `Vary: *` (section 4.1) is above any rule: it says that no request can be compared.
 */
export function lifetimeOf(arrival: Arrival, rule: CacheRule | null): Lifetime | null {
  if (rule?.store === false || arrival.status === 206) return null;
  if (
    arrival.fields
      .get('vary')
      ?.split(',')
      .some((name) => name.trim() === '*')
  )
    return null;
  const initialAgeMs = initialAge(arrival);
  if (rule !== null) {
    if (arrival.status !== 200) return null;
    return rule.ttlMs > 0 ? { initialAgeMs, freshForMs: initialAgeMs + rule.ttlMs } : null;
  }
  const freshForMs = sharedLifetimeMs(arrival);
  return freshForMs > initialAgeMs ? { initialAgeMs, freshForMs } : null;
}

/**
 * Freshness as RFC 9111 gives it to a shared cache; 0 where the answer may not be stored. Every request reaches the
 * upstream with the account's credential, so without `public`, `s-maxage` or `must-revalidate` nothing is stored
 * (section 3.5). Patchworks says `no-cache, private` to all: without a rule, nothing of it is ever kept.
 */
function sharedLifetimeMs({ status, fields, now }: Arrival): number {
  const headers: Record<string, string> = { 'cache-control': strictDirectives(fields) };
  const date = parseHttpDate(fields.get('date') ?? '') ?? now;
  headers['date'] = new Date(date).toUTCString();
  const expires = fields.get('expires');
  // '0' is "in the past" (section 5.3), as any malformed date is.
  if (expires !== undefined) headers['expires'] = parseHttpDate(expires) === null ? '0' : expires;
  const modified = fields.get('last-modified');
  if (modified !== undefined && parseHttpDate(modified) !== null) headers['last-modified'] = modified;
  const request = { method: 'GET', headers: { authorization: 'the credential of the account' } };
  const policy = new CachePolicy(request, { status, headers }, { shared: true, immutableMinTimeToLive: 0 });
  return policy.storable() ? policy.maxAge() * 1000 : 0;
}

/** Directives that decide for a shared cache that serves nothing stale; a qualified form counts as the plain one. */
const FLAGS = ['no-store', 'no-cache', 'private', 'public', 'must-revalidate'] as const;

/** The field in the one form the library reads without mistakes: it knows neither capitals, nor quotes, nor repetition. */
function strictDirectives(fields: Fields): string {
  const directives: Directives = parseDirectives(fields.get('cache-control') ?? '');
  const strict: string[] = FLAGS.filter((flag) => directives.has(flag));
  if (!fields.has('cache-control') && /\bno-cache\b/i.test(fields.get('pragma') ?? '')) strict.push('no-cache');
  for (const name of ['s-maxage', 'max-age']) {
    const seconds = secondsOf(directives, name);
    if (seconds !== null) strict.push(`${name}=${seconds}`);
  }
  return strict.join(', ');
}

/** RFC 9111 section 4.2.3, in which the network's delay counts as age. Date has whole seconds: less than one is none. */
function initialAge({ fields, now, upstreamMs }: Arrival): number {
  const date = parseHttpDate(fields.get('date') ?? '');
  const apparentMs = date === null ? 0 : Math.floor(Math.max(0, now - date) / 1000) * 1000;
  const age = deltaSeconds(fields.get('age')?.split(',')[0]?.trim() ?? '') ?? 0;
  return Math.max(apparentMs, age * 1000 + (upstreamMs ?? 0));
}
