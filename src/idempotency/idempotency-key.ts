import type { RequestContext } from '../context.ts';

export type IdempotencyKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'malformed'; readonly detail: string };

const WRITES: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
const LONGEST = 255;
/** No spaces: a proxy that joins two fields puts one between them, and they would look like one key. */
const VISIBLE = /^[\x21-\x7e]+$/;
/** A string of structured fields (RFC 9651 section 3.3.3): a backslash stands only before a quote or a backslash. */
const QUOTED = /^"((?:[^"\\]|\\["\\])*)"$/;

/**
 * The Idempotency-Key of a write (draft-ietf-httpapi-idempotency-key-header). The draft wants a string in quotes; most
 * clients send it without: both are the same key. Of other methods it means nothing.
 */
export function readIdempotencyKey({
  method,
  rawHeaders,
}: Pick<RequestContext, 'method' | 'rawHeaders'>): IdempotencyKey {
  if (!WRITES.has(method)) return { kind: 'none' };
  const given: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() === 'idempotency-key') given.push((rawHeaders[i + 1] as string).trim());
  }
  const [text] = given;
  if (text === undefined) return { kind: 'none' };
  if (given.length > 1) return malformed('The request has several Idempotency-Keys. Send one.');
  const key = text.startsWith('"') ? QUOTED.exec(text)?.[1]?.replace(/\\(.)/g, '$1') : text;
  if (key === undefined || !VISIBLE.test(key) || key.length > LONGEST) {
    return malformed(`The Idempotency-Key must be 1 to ${LONGEST} visible ASCII characters.`);
  }
  return { kind: 'key', key };
}

function malformed(detail: string): IdempotencyKey {
  return { kind: 'malformed', detail };
}
