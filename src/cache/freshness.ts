import type { EpochMs } from '../clock.ts';
import {
  cdnDirectives,
  type Directives,
  deltaSeconds,
  type Fields,
  parseDirectives,
  parseHttpDate,
  secondsOf,
} from './cache-control.ts';
import type { CacheRule } from './options.ts';
import { NEVER_STALE, type StaleWindows } from './store.ts';

export interface Freshness {
  readonly initialAgeMs: number;
  /** Counted from `initialAgeMs` before the arrival; not above it for a response that is validated each time. */
  readonly freshForMs: number;
  readonly stale: StaleWindows;
  /** How long after the arrival the response is of use, stale windows and validation included. Above 0. */
  readonly keepMs: number;
}

/** A response whose headers have just arrived. */
interface ReceivedResponse {
  readonly status: number;
  readonly fields: Fields;
  readonly now: EpochMs;
  /** Null where it was not measured. */
  readonly upstreamMs: number | null;
  /**
   * The caller sent its key in Authorization, so RFC 9111 section 3.5 applies. It does not apply to X-API-Key, and need not: the
   * cache key has the account, and the upstream sees only the account's credential.
   */
  readonly authorised: boolean;
}

/** A response with validators is kept this much longer: a 304 costs the upstream less than a full response. */
const VALIDATE_MS = 60 * 60_000;

/**
 * How long the response to a GET may be served, or null for never.
 *
 * The TTL of a rule takes the place of the upstream's fields and counts from the arrival, also behind a cache that adds an Age.
 * It covers 200 only: no rule stores an error, a part or a redirect. `Vary: *` (section 4.1) goes before any rule.
 */
export function freshnessOf(received: ReceivedResponse, rule: CacheRule | null): Freshness | null {
  const { status, fields } = received;
  if (rule?.store === false || status === 206 || status === 304 || variesByAnything(fields)) return null;
  const initialAgeMs = initialAge(received);
  let lifetime: Lifetime | null;
  if (rule === null) lifetime = sharedLifetime(received);
  else lifetime = status === 200 ? { ...rule, freshForMs: initialAgeMs + rule.ttlMs } : null;
  if (lifetime === null) return null;
  const { freshForMs, staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs } = lifetime;
  const validatedMs = canBeValidated(fields) ? VALIDATE_MS : 0;
  const staleMs = Math.max(staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs, validatedMs);
  const keepMs = freshForMs - initialAgeMs + staleMs;
  const stale = { staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs };
  return keepMs > 0 ? { initialAgeMs, freshForMs, stale, keepMs } : null;
}

interface Lifetime extends StaleWindows {
  readonly freshForMs: number;
}

/** The gateway gives each request an id of its own. */
const EVERY_TIME: ReadonlySet<string> = new Set(['*', 'x-request-id']);

function variesByAnything(fields: Fields): boolean {
  const vary = fields.get('vary');
  return vary?.split(',').some((name) => EVERY_TIME.has(name.trim().toLowerCase())) ?? false;
}

function canBeValidated(fields: Fields): boolean {
  return fields.has('etag') || parseHttpDate(fields.get('last-modified') ?? '') !== null;
}

/** May be stored without explicit freshness (RFC 9110 section 15.1), and are those that `must-understand` allows. */
const KNOWN_STATUSES: ReadonlySet<number> = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]);
/** The usual heuristic, as a part of the time since Last-Modified (RFC 9111 section 4.2.2). */
const HEURISTIC_PART = 0.1;

/**
 * Freshness in a shared cache by RFC 9111; null if the response may not be stored (section 3). Patchworks sends `no-cache, private`
 * with every response, so without a rule none of them is stored.
 */
function sharedLifetime({ status, fields, now, authorised }: ReceivedResponse): Lifetime | null {
  const targeted = cdnDirectives(fields.get('cdn-cache-control'));
  const directives: Directives = targeted ?? parseDirectives(fields.get('cache-control') ?? '');
  const has = (...names: string[]): boolean => names.some((name) => directives.has(name));
  const seconds = (name: string): number | null => secondsOf(directives, name);
  const expires = targeted === null ? fields.get('expires') : undefined;
  const explicit = has('max-age', 's-maxage', 'public') || expires !== undefined;
  const mayStore = explicit && !has('must-understand') ? status >= 200 : KNOWN_STATUSES.has(status);
  if (!mayStore || has('no-store', 'private')) return null;
  if (authorised && !has('must-revalidate', 'public', 's-maxage')) return null;
  const validated = has('must-revalidate', 'proxy-revalidate', 's-maxage', 'no-cache');
  const stale = {
    ...NEVER_STALE,
    ...(!validated && {
      staleWhileRevalidateMs: (seconds('stale-while-revalidate') ?? 0) * 1000,
      staleIfErrorMs: (seconds('stale-if-error') ?? 0) * 1000,
    }),
  };
  const hasControl = fields.has('cache-control') || fields.has('cdn-cache-control');
  if (has('no-cache') || (!hasControl && /\bno-cache\b/i.test(fields.get('pragma') ?? '')))
    return { ...stale, freshForMs: 0 };
  const maxAge = seconds('s-maxage') ?? seconds('max-age');
  if (maxAge !== null) return { ...stale, freshForMs: maxAge * 1000 };
  const date = parseHttpDate(fields.get('date') ?? '') ?? Math.floor(now / 1000) * 1000;
  // A malformed Expires is in the past (section 5.3).
  const untilMs = expires === undefined ? null : (parseHttpDate(expires) ?? 0) - date;
  const modified = parseHttpDate(fields.get('last-modified') ?? '') ?? date;
  return { ...stale, freshForMs: Math.max(0, untilMs ?? (date - modified) * HEURISTIC_PART) };
}

/** RFC 9111 section 4.2.3: the delay of the network counts as age. Date has whole seconds, so a smaller difference is none. */
function initialAge({ fields, now, upstreamMs }: ReceivedResponse): number {
  const date = parseHttpDate(fields.get('date') ?? '');
  const apparentMs = date === null ? 0 : Math.floor(Math.max(0, now - date) / 1000) * 1000;
  const age = deltaSeconds(fields.get('age')?.split(',')[0]?.trim() ?? '') ?? 0;
  return Math.max(apparentMs, age * 1000 + (upstreamMs ?? 0));
}
