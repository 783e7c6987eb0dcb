/** The key a request carries. */
export type ExtractedKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'key'; readonly key: string };

const NONE: ExtractedKey = { kind: 'none' };
const CONFLICT: ExtractedKey = { kind: 'conflict' };

/**
 * `Authorization: Bearer <key>`, `Authorization: <key>` (as Patchworks clients send it) or `X-API-Key: <key>`. A key may
 * be sent in several of them if it is the same; two that disagree are refused, since whichever one were taken, a proxy
 * on the way may have looked at the other. Reads raw headers: Node's parsed form silently keeps the first duplicate.
 */
export function extractKey(rawHeaders: readonly string[]): ExtractedKey {
  let key: string | null = null;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    // Length first: this runs for every header of every request.
    let value: string;
    if (name.length === 13 && name.toLowerCase() === 'authorization')
      value = withoutScheme(rawHeaders[i + 1] as string);
    else if (name.length === 9 && name.toLowerCase() === 'x-api-key') value = (rawHeaders[i + 1] as string).trim();
    else continue;
    if (value === '') continue;
    if (key !== null && key !== value) return CONFLICT;
    key = value;
  }
  return key === null ? NONE : { kind: 'key', key };
}

function withoutScheme(value: string): string {
  const trimmed = value.trim();
  if (trimmed.length >= 6 && trimmed.slice(0, 6).toLowerCase() === 'bearer') {
    if (trimmed.length === 6) return '';
    const after = trimmed.charCodeAt(6);
    if (after === 0x20 || after === 0x09) return trimmed.slice(7).trim();
  }
  return trimmed;
}
