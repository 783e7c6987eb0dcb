import { parseDictionary } from 'structured-headers';
import { parseHttpDate } from './http-date.ts';
import type { Fields } from './stored-headers.ts';

/** The directives of a Cache-Control field: names in lower case, null for a directive without a value. */
export type Directives = ReadonlyMap<string, string | null>;

/** Larger ages and delta-seconds count as this (RFC 9111 section 1.2.2). */
const MAX_SECONDS = 2 ** 31;

/** A value that no directive accepts, for a directive that is repeated with another value. */
const CONTRADICTION = '\n';

const DIRECTIVE = /\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?\s*(?:,|$)/y;

/**
 * Reads a Cache-Control field. Text that follows no grammar is skipped up to the next comma: a malformed directive must not
 * hide a `no-store` behind it. Two values that differ make a directive malformed (section 4.2.1).
 */
export function parseDirectives(field: string): Directives {
  const directives = new Map<string, string | null>();
  let at = 0;
  while (at < field.length) {
    DIRECTIVE.lastIndex = at;
    const match = DIRECTIVE.exec(field);
    if (match === null || match[0] === '') {
      const comma = field.indexOf(',', at);
      if (comma === -1) break;
      at = comma + 1;
      continue;
    }
    at = DIRECTIVE.lastIndex;
    const name = (match[1] as string).toLowerCase();
    const value = match[2] ?? match[3] ?? null;
    const known = directives.get(name);
    directives.set(name, known === undefined || known === value ? value : CONTRADICTION);
  }
  return directives;
}

/** Null for an absent directive; 0 for a malformed one: it makes a response stale and a request directive impossible to meet. */
export function secondsOf(directives: Directives, name: string): number | null {
  const value = directives.get(name);
  if (value === undefined) return null;
  return value === null ? 0 : (deltaSeconds(value) ?? 0);
}

/** Null for anything but digits. */
export function deltaSeconds(text: string): number | null {
  return /^[0-9]+$/.test(text) ? Math.min(Number(text), MAX_SECONDS) : null;
}

const WITH_SECONDS: ReadonlySet<string> = new Set(['max-age', 's-maxage', 'stale-if-error', 'stale-while-revalidate']);

/**
 * Reads CDN-Cache-Control (RFC 9213), which takes the place of Cache-Control and Expires for shared caches. Null for an absent
 * or malformed field, which has no effect (section 2.1).
 */
export function cdnDirectives(field: string | undefined): Directives | null {
  if (field === undefined || field.trim() === '') return null;
  try {
    const directives = new Map<string, string | null>();
    for (const [name, [value]] of parseDictionary(field)) {
      if (WITH_SECONDS.has(name)) {
        if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) return null;
        directives.set(name, String(value));
      } else if (value !== false) directives.set(name, null);
    }
    return directives;
  } catch {
    return null;
  }
}

const DATES = ['date', 'expires', 'last-modified'] as const;
/** "Already expired" in common use: not a date, but not an error either (RFC 9111 section 5.3). */
const EXPIRED = /^(?:0|-1)$/;

/**
 * Names of freshness fields that are malformed or contradictory. None of them is an error for the caller. They are counted, so
 * that an operator can see why a response is not stored.
 */
export function invalidFreshnessHeaders(fields: Fields): readonly string[] {
  const control = fields.get('cache-control');
  const age = fields.get('age');
  const dates = DATES.filter((name) => {
    const value = fields.get(name);
    return value !== undefined && parseHttpDate(value) === null && !(name === 'expires' && EXPIRED.test(value.trim()));
  });
  return [
    ...(control !== undefined && !hasValidSeconds(parseDirectives(control)) ? ['cache-control'] : []),
    ...(age !== undefined && deltaSeconds(age.trim()) === null ? ['age'] : []),
    ...dates,
  ];
}

function hasValidSeconds(directives: Directives): boolean {
  return [...WITH_SECONDS].every((name) => {
    const value = directives.get(name);
    return value === undefined || (value !== null && deltaSeconds(value) !== null);
  });
}
