import type { Received } from '../exchange.ts';

export type ReplayKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'malformed'; readonly detail: string };

const WRITES: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
/** What a structured-field string may hold, with or without its quotes. */
const VISIBLE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
const LONGEST = 255;

/**
 * The Idempotency-Key of a write (draft-ietf-httpapi-idempotency-key-header). The draft wants a string in quotes; most
 * clients send it without: both are the same key. Of other methods it means nothing.
 */
export function replayKeyOf({ method, rawHeaders }: Pick<Received, 'method' | 'rawHeaders'>): ReplayKey {
  if (!WRITES.has(method)) return { kind: 'none' };
  const given: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() === 'idempotency-key') given.push((rawHeaders[i + 1] as string).trim());
  }
  const [text] = given;
  if (text === undefined) return { kind: 'none' };
  if (given.length > 1) return malformed('The request has several Idempotency-Keys. Send one.');
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(text);
  const key = quoted === null ? text : (quoted[1] as string).replace(/\\(["\\])/g, '$1');
  if (!VISIBLE.test(key) || key.length > LONGEST) {
    return malformed(`The Idempotency-Key must be 1 to ${LONGEST} visible ASCII characters.`);
  }
  return { kind: 'key', key };
}

function malformed(detail: string): ReplayKey {
  return { kind: 'malformed', detail };
}
