import CachePolicy from 'http-cache-semantics';
import type { EpochMs } from '../clock.ts';
import { type Directives, deltaSeconds, parseDirectives, secondsOf } from './cache-control.ts';
import { parseHttpDate } from './http-date.ts';
import { type CacheRule, NEVER_STALE, type StaleWindows } from './rules.ts';
import type { Fields } from './stored-headers.ts';
import { cdnDirectives } from './targeted.ts';

export interface Freshness {
  readonly initialAgeMs: number;
  /** Counted from `initialAgeMs` before the answer arrived; below it for what has to be validated each time. */
  readonly freshForMs: number;
  readonly stale: StaleWindows;
  /** From the arrival: how long the answer is of any use. Above 0. */
  readonly keepMs: number;
}

/** An answer whose headers have just arrived. */
export interface ReceivedResponse {
  readonly status: number;
  readonly fields: Fields;
  readonly now: EpochMs;
  /** Null where that was not measured. */
  readonly upstreamMs: number | null;
  /**
   * The caller gave its key in Authorization: then RFC 9111 section 3.5 applies to the request as it stands. With the key in
   * another field it does not, and need not: the key of the answer holds the account, whose one credential upstream sees.
   */
  readonly authorised: boolean;
}

/** What upstream has named can be validated: it is kept that much longer, for an answer 304 costs upstream less. */
const VALIDATE_MS = 60 * 60_000;

/**
 * How long an answer to a GET may be served, or null for never.
 *
 * A rule's TTL takes the place of what the upstream says, and counts from the arrival: the operator's "at most 30 s
 * after it was fetched" holds also behind a cache that adds an Age. It covers 200 alone: no rule makes an error,
 * a part or a redirect last. `Vary: *` (section 4.1) is above any rule: it says that no request can be compared.
 */
export function freshnessOf(arrival: ReceivedResponse, rule: CacheRule | null): Freshness | null {
  if (rule?.store === false || arrival.status === 206 || arrival.status === 304) return null;
  if (variesByAnything(arrival.fields)) return null;
  const initialAgeMs = initialAge(arrival);
  const validated = canBeValidated(arrival.fields) ? VALIDATE_MS : 0;
  if (rule !== null) {
    if (arrival.status !== 200) return null;
    return lasting(initialAgeMs, initialAgeMs + rule.ttlMs, rule, validated);
  }
  const shared = sharedLifetime(arrival);
  return shared === null ? null : lasting(initialAgeMs, shared.freshForMs, shared.stale, validated);
}

function lasting(initialAgeMs: number, freshForMs: number, stale: StaleWindows, validatedMs: number): Freshness | null {
  const { staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs } = stale;
  const staleMs = Math.max(staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs, validatedMs);
  const keepMs = freshForMs - initialAgeMs + staleMs;
  return keepMs > 0 ? { initialAgeMs, freshForMs, stale, keepMs } : null;
}

function variesByAnything(fields: Fields): boolean {
  const vary = fields.get('vary');
  return vary?.split(',').some((name) => name.trim() === '*') ?? false;
}

export function canBeValidated(fields: Fields): boolean {
  return fields.has('etag') || parseHttpDate(fields.get('last-modified') ?? '') !== null;
}

/**
 * Freshness as RFC 9111 gives it to a shared cache; null where the answer may not be stored. Patchworks says
 * `no-cache, private` to all: without a rule, nothing of it is ever kept.
 */
function sharedLifetime({
  status,
  fields,
  now,
  authorised,
}: ReceivedResponse): { freshForMs: number; stale: StaleWindows } | null {
  const targeted = cdnDirectives(fields.get('cdn-cache-control'));
  const directives: Directives = targeted ?? parseDirectives(fields.get('cache-control') ?? '');
  const headers: Record<string, string> = { 'cache-control': strictDirectives(fields, directives) };
  const date = parseHttpDate(fields.get('date') ?? '') ?? now;
  headers['date'] = new Date(date).toUTCString();
  // '0' is "in the past" (section 5.3), as any malformed date is.
  if (targeted === null && fields.has('expires')) headers['expires'] = oneForm(fields.get('expires')) ?? '0';
  const modified = oneForm(fields.get('last-modified'));
  if (modified !== null) headers['last-modified'] = modified;
  const request = { method: 'GET', headers: authorised ? { authorization: 'a key' } : {} };
  const policy = new CachePolicy(
    request,
    { status: knownTo(status, directives, fields), headers },
    { shared: true, immutableMinTimeToLive: 0 },
  );
  if (!policy.storable()) return null;
  const validatedFirst = ['must-revalidate', 'proxy-revalidate', 's-maxage', 'no-cache'];
  const strict = validatedFirst.some((name) => directives.has(name));
  const seconds = (name: string) => (strict ? 0 : (secondsOf(directives, name) ?? 0) * 1000);
  const stale = {
    ...NEVER_STALE,
    staleWhileRevalidateMs: seconds('stale-while-revalidate'),
    staleIfErrorMs: seconds('stale-if-error'),
  };
  return { freshForMs: policy.maxAge() * 1000, stale };
}

/**
 * The library stores only the statuses it knows by name; RFC 9111 section 3 stores every final one that brings freshness
 * of its own or is called `public`, unless `must-understand` wants it understood.
 */
function knownTo(status: number, directives: Directives, fields: Fields): number {
  const explicit = ['max-age', 's-maxage', 'public'].some((name) => directives.has(name)) || fields.has('expires');
  return explicit && status >= 200 && !directives.has('must-understand') ? 200 : status;
}

/** A date in the one form that everybody reads alike. */
function oneForm(field: string | undefined): string | null {
  const parsed = parseHttpDate(field ?? '');
  return parsed === null ? null : new Date(parsed).toUTCString();
}

/** Directives that decide for a shared cache; a qualified form counts as the plain one. */
const FLAGS = ['no-store', 'no-cache', 'private', 'public', 'must-revalidate'] as const;

/** The field in the one form the library reads without mistakes: it knows neither capitals, nor quotes, nor repetition. */
function strictDirectives(fields: Fields, directives: Directives): string {
  const strict: string[] = FLAGS.filter((flag) => directives.has(flag));
  const said = fields.has('cache-control') || fields.has('cdn-cache-control');
  if (!said && /\bno-cache\b/i.test(fields.get('pragma') ?? '')) strict.push('no-cache');
  for (const name of ['s-maxage', 'max-age']) {
    const seconds = secondsOf(directives, name);
    if (seconds !== null) strict.push(`${name}=${seconds}`);
  }
  return strict.join(', ');
}

/** RFC 9111 section 4.2.3, in which the network's delay counts as age. Date has whole seconds: less than one is none. */
function initialAge({ fields, now, upstreamMs }: ReceivedResponse): number {
  const date = parseHttpDate(fields.get('date') ?? '');
  const apparentMs = date === null ? 0 : Math.floor(Math.max(0, now - date) / 1000) * 1000;
  const age = deltaSeconds(fields.get('age')?.split(',')[0]?.trim() ?? '') ?? 0;
  return Math.max(apparentMs, age * 1000 + (upstreamMs ?? 0));
}
