/**
 * `METHOD /path` patterns of routes, permissions and cache rules.
 *
 * - method: a token, or `*` for all; `GET` covers HEAD
 * - `*` matches one segment, `**` any number of them at the end, also none: `/a/**` matches `/a` and all below it
 * - a trailing slash changes nothing
 * - a segment after a backslash is itself: see {@link literally}
 */
export interface Pattern {
  /** As written, with one space: the form for logs and labels. */
  readonly text: string;
  /** Null for all methods. */
  readonly method: string | null;
  /** Segments without slashes; `**` only as the last one. */
  readonly segments: readonly string[];
}

type ParsedPattern = { ok: true; pattern: Pattern } | { ok: false; reason: string };

const METHOD = /^[A-Z]+$/;

export function parsePattern(text: string): ParsedPattern {
  const [method, path, ...more] = text.trim().split(/\s+/);
  if (method === undefined || path === undefined || more.length > 0) {
    return { ok: false, reason: 'must be a method and a path, such as "GET /api/v1/**"' };
  }
  if (method !== '*' && !METHOD.test(method)) {
    return { ok: false, reason: `"${method}" is not a method: write it in capitals, or * for all` };
  }
  const parsed = parsePathPattern(path);
  if (!parsed.ok) return parsed;
  return {
    ok: true,
    pattern: { text: `${method} ${path}`, method: method === '*' ? null : method, segments: parsed.segments },
  };
}

export function parsePathPattern(path: string): { ok: true; segments: string[] } | { ok: false; reason: string } {
  if (!path.startsWith('/')) return { ok: false, reason: `the path "${path}" must begin with /` };
  if (/[?#%\\]/.test(path)) return { ok: false, reason: `the path "${path}" must have no ?, #, % or backslash` };
  const segments = splitPath(path);
  if (segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
    return { ok: false, reason: `the path "${path}" has an empty or a dot segment` };
  }
  const rest = segments.indexOf('**');
  if (rest !== -1 && rest !== segments.length - 1) {
    return { ok: false, reason: `in "${path}", ** may only stand at the end` };
  }
  const mixed = segments.find((segment) => segment.includes('*') && segment !== '*' && segment !== '**');
  if (mixed !== undefined) return { ok: false, reason: `"${mixed}": a * stands for a whole segment` };
  return { ok: true, segments };
}

/** Segments of an absolute path; a trailing slash adds none, so `/a/` and `/a` are the same. */
export function splitPath(path: string): string[] {
  const segments = path.split('/');
  segments.shift();
  if (segments.at(-1) === '') segments.pop();
  return segments;
}

/** The longest part of a segment that {@link resourceOf} takes over: callers choose it. */
const MAX_RESOURCE_SEGMENT = 64;
const PREFIX = /^(?:api|v\d{1,3})$/;

/**
 * The kind of resource that a matching path is about: `/api/v1/flows` for all flows, whatever their ids. It is the path of the pattern,
 * with the first segment in place of `**`, or the first after `api` and a version.
 */
export function resourceOf({ segments: pattern }: Pattern, segments: readonly string[]): string {
  const fixed = pattern.at(-1) === '**' ? pattern.length - 1 : pattern.length;
  let end = fixed;
  while (fixed < pattern.length && PREFIX.test(segments[end] ?? '')) end += 1;
  const rest = fixed < pattern.length ? segments.slice(fixed, end + 1) : [];
  return ['', ...pattern.slice(0, fixed), ...rest.map((each) => each.slice(0, MAX_RESOURCE_SEGMENT))].join('/');
}

export function matchesMethod(pattern: Pattern, method: string): boolean {
  return pattern.method === null || pattern.method === method || (pattern.method === 'GET' && method === 'HEAD');
}

/** Neither a pattern of the configuration nor a canonical path can contain it. */
const LITERAL = '\\';

/** A pattern that matches these segments only, also if one of them is `*` or `**`: a path of a caller or of the upstream is no pattern. */
export function literally(segments: readonly string[]): string[] {
  return segments.map((segment) =>
    segment.startsWith('*') || segment.startsWith(LITERAL) ? LITERAL + segment : segment,
  );
}

/** `segments` are those of a canonical path, decoded: see canonical-path.ts. */
export function matchesPath(pattern: readonly string[], segments: readonly string[]): boolean {
  const rest = pattern.at(-1) === '**';
  const fixed = rest ? pattern.length - 1 : pattern.length;
  if (rest ? segments.length < fixed : segments.length !== fixed) return false;
  for (let i = 0; i < fixed; i++) {
    const wanted = pattern[i] as string;
    if (wanted === '*' || wanted === segments[i]) continue;
    if (!wanted.startsWith(LITERAL) || wanted.slice(1) !== segments[i]) return false;
  }
  return true;
}

export function matches(pattern: Pattern, method: string, segments: readonly string[]): boolean {
  return matchesMethod(pattern, method) && matchesPath(pattern.segments, segments);
}

/** Whether some request matches both. */
export function overlap(a: Pattern, b: Pattern): boolean {
  const sameMethod =
    a.method === null || matchesMethod(b, a.method) || (b.method !== null && matchesMethod(a, b.method));
  const [shorter, longer] = a.segments.length < b.segments.length ? [a, b] : [b, a];
  const fixed = shorter.segments.filter((segment) => segment !== '**');
  const isOpen = fixed.length < shorter.segments.length;
  const rest = longer.segments.slice(fixed.length);
  if (!isOpen && rest.some((segment) => segment !== '**')) return false;
  return (
    sameMethod &&
    fixed.every((segment, i) => {
      const other = longer.segments[i] as string;
      return segment === '*' || other === '*' || other === '**' || segment === other;
    })
  );
}
