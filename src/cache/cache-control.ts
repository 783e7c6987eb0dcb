/** The directives of a Cache-Control field, names in lower case; null as value where there is none. */
export type Directives = ReadonlyMap<string, string | null>;

/** Age and delta-seconds above this are taken as this (RFC 9111 section 1.2.2). */
const MAX_SECONDS = 2 ** 31;

/** A value that no directive accepts, for directives that are given twice with different values. */
const CONTRADICTION = '\n';

const DIRECTIVE = /\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?\s*(?:,|$)/y;

/**
 * Reads a Cache-Control field. What follows no grammar is skipped up to the next comma: one broken directive must not
 * take a `no-store` behind it away. Two values that disagree make the directive malformed (section 4.2.1).
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

/** Null where the directive is absent; 0 where it is malformed, which makes an answer stale and a wish unfulfillable. */
export function secondsOf(directives: Directives, name: string): number | null {
  const value = directives.get(name);
  if (value === undefined) return null;
  return value === null ? 0 : (deltaSeconds(value) ?? 0);
}

/** Null for anything but digits. */
export function deltaSeconds(text: string): number | null {
  return /^[0-9]+$/.test(text) ? Math.min(Number(text), MAX_SECONDS) : null;
}
