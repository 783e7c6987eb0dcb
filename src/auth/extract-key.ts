export type ExtractedKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'conflict' }
  /** `bearer`: sent as `Authorization: Bearer`, as a token is. */
  | { readonly kind: 'key'; readonly key: string; readonly bearer: boolean };

/**
 * Reads `Authorization: Bearer <key>`, `Authorization: <key>` (as Patchworks clients send it) and `X-API-Key: <key>`. A request
 * may repeat the same key. Two different keys are a conflict: a proxy in front of the gateway may have checked the other one.
 * Reads raw headers, because Node's parsed form drops the second of two `Authorization` fields.
 */
export function extractKey(rawHeaders: readonly string[]): ExtractedKey {
  let key: string | null = null;
  let bearer = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    if (name !== 'authorization' && name !== 'x-api-key') continue;
    const field = (rawHeaders[i + 1] as string).trim();
    const value = name === 'authorization' ? withoutScheme(field) : field;
    if (value === '') continue;
    if (key !== null && key !== value) return { kind: 'conflict' };
    key = value;
    bearer ||= name === 'authorization' && value !== field;
  }
  return key === null ? { kind: 'none' } : { kind: 'key', key, bearer };
}

function withoutScheme(credentials: string): string {
  return /^bearer(?:[ \t]|$)/i.test(credentials) ? credentials.slice('bearer'.length).trim() : credentials;
}
