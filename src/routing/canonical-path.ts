import { splitPath } from './pattern.ts';

/**
 * A request target that every server reads as the same path. Permission checks, cache keys and routes use this form, while the
 * target is forwarded byte for byte. So a target with two readings is rejected, never repaired:
 *
 * - dot segments, plain or escaped (RFC 3986 section 5.2.4: a server may resolve them)
 * - escaped slashes and backslashes (some servers decode before they split)
 * - an escape of an escape, `%252e` (some stacks decode twice)
 * - control characters and NUL, plain or escaped; escapes that are not UTF-8
 * - empty segments, `//` (many servers merge them)
 */
export interface CanonicalTarget {
  /** Decoded and encoded again; without a trailing slash, except `/` itself. */
  readonly path: string;
  /** Segments of the path, decoded. */
  readonly segments: readonly string[];
  /** Raw, without the `?`; '' if there is none. */
  readonly query: string;
}

type Canonicalised = { ok: true; target: CanonicalTarget } | { ok: false; reason: string };

const ESCAPED_TWICE = /%25[0-9a-f]{2}/i;
// biome-ignore lint/suspicious/noControlCharactersInRegex: it looks for control characters.
const FORBIDDEN_DECODED = /[\u0000-\u001f\u007f-\u009f/\\]/;

export function canonicalise(target: string): Canonicalised {
  const mark = target.indexOf('?');
  const rawPath = mark === -1 ? target : target.slice(0, mark);
  const query = mark === -1 ? '' : target.slice(mark + 1);
  if (target.includes('#')) return { ok: false, reason: 'the target has a fragment' };
  if (!rawPath.startsWith('/')) return { ok: false, reason: 'the path does not begin with /' };
  if (rawPath.includes('\\')) return { ok: false, reason: 'the path has a backslash' };
  // Servers differ on other characters: some re-encode them, others reject or corrupt them.
  if (!/^[\u0021-\u007e]*$/.test(rawPath)) return { ok: false, reason: 'the path has characters that must be escaped' };
  if (ESCAPED_TWICE.test(rawPath)) return { ok: false, reason: 'the path is escaped twice' };
  const segments: string[] = [];
  for (const raw of splitPath(rawPath)) {
    const decoded = decode(raw);
    if (decoded === null) return { ok: false, reason: 'the path has a malformed escape' };
    if (FORBIDDEN_DECODED.test(decoded)) {
      return { ok: false, reason: 'the path has an escaped slash, backslash or control character' };
    }
    segments.push(decoded);
  }
  const fault = faultOf(segments);
  if (fault) return { ok: false, reason: fault };
  return { ok: true, target: { path: `/${segments.map(encodeSegment).join('/')}`, segments, query } };
}

/** Some servers cut off path parameters (`/..;x=1/`) or trim spaces (`/..%20/`) before they resolve dots. */
function faultOf(segments: readonly string[]): string | null {
  for (const segment of segments) {
    const [name = ''] = segment.split(';', 1);
    const trimmed = name.trim();
    if (segment === '') return 'the path has an empty segment (`//`): join base URL and path with one slash';
    if (trimmed === '') return 'the path has an empty segment';
    if (trimmed === '.' || trimmed === '..') return 'the path has a dot segment';
  }
  return null;
}

/** Leaves the other characters of a `pchar` (RFC 3986 section 3.3) unescaped, so that each path has one spelling. */
function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(/%(?:24|26|2B|2C|3A|3B|3D|40)/g, decodeURIComponent);
}

function decode(raw: string): string | null {
  try {
    return decodeURIComponent(raw);
  } catch {
    return null;
  }
}
