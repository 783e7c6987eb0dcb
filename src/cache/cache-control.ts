import { parseDictionary } from 'structured-headers';

/** Header fields by lower-case name, lines of the same name joined with a comma (RFC 9110 section 5.3). */
export type Fields = ReadonlyMap<string, string>;

export function fieldsOf(list: readonly string[]): Fields {
  const fields = new Map<string, string>();
  for (let i = 0; i < list.length; i += 2) {
    const name = (list[i] as string).toLowerCase();
    const known = fields.get(name);
    const value = list[i + 1] as string;
    fields.set(name, known === undefined ? value : `${known}, ${value}`);
  }
  return fields;
}

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

const MONTHS = 'Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec';
const IMF_FIXDATE = new RegExp(`^[A-Z][a-z]{2}, \\d{2} (?:${MONTHS}) \\d{4} \\d{2}:\\d{2}:\\d{2} GMT$`);
const RFC_850 = new RegExp(`^[A-Z][a-z]+day, \\d{2}-(?:${MONTHS})-\\d{2} \\d{2}:\\d{2}:\\d{2} GMT$`);
const ASCTIME = new RegExp(`^[A-Z][a-z]{2} (?:${MONTHS}) [ \\d]\\d \\d{2}:\\d{2}:\\d{2} \\d{4}$`);

/**
 * Milliseconds since the epoch, or null. Reads the three formats of RFC 9110 section 5.6.7, and nothing else: Date.parse also finds
 * a date in `Expires: 0` and in local times, but a malformed date makes a response stale (RFC 9111 section 5.3).
 */
export function parseHttpDate(text: string): number | null {
  let parsed = Number.NaN;
  if (IMF_FIXDATE.test(text)) parsed = Date.parse(text);
  else if (RFC_850.test(text)) parsed = Date.parse(withCentury(text));
  else if (ASCTIME.test(text)) parsed = Date.parse(`${text} GMT`);
  return Number.isNaN(parsed) ? null : parsed;
}

/** A year of two digits is at most 50 years ahead, else the latest in the past that ends so (RFC 9110 section 5.6.7). */
function withCentury(text: string): string {
  const latest = new Date().getUTCFullYear() + 50;
  return text.replace(/-(\d{2}) /, (_, digits: string) => {
    const year = latest - (latest % 100) + Number(digits);
    return ` ${year > latest ? year - 100 : year} `;
  });
}
