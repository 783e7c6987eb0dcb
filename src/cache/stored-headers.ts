import { filterHeaders, type HeaderList } from '../context.ts';
import { isSent } from '../upstream/headers.ts';

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

/**
 * Fields that belong to one response and must not reach another caller: those of the connection (RFC 9111 section 3.1), cookies and
 * credentials, the quota left at that time, ids of the request; and those that each response computes anew.
 *
 * Set-Cookie is removed and does not prevent storing: the gateway passes no cookies, so no response depends on one.
 */
const NEVER_STORED: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'set-cookie',
  'set-cookie2',
  'authorization',
  'authentication-info',
  'www-authenticate',
  'x-api-key',
  'retry-after',
  'x-request-id',
  'traceparent',
  'tracestate',
  'server-timing',
  'age',
  'cache-status',
  'content-length',
]);

/** RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-Rate-Limit-Reset and their relatives. */
const RATE_LIMIT = /^(?:x-)?rate-?limit/;

/** The headers of a stored response. The length is set when it is sent, because links in the body may be rewritten. */
export function storedHeaders(list: readonly string[], fields: Fields): HeaderList {
  const hops = new Set((fields.get('connection') ?? '').split(',').map((name) => name.trim().toLowerCase()));
  return filterHeaders(list, (name) => !NEVER_STORED.has(name) && !RATE_LIMIT.test(name) && !hops.has(name));
}

/**
 * The request fields that select this response, lower case and sorted (RFC 9111 section 4.1). No response depends on a field that is not
 * sent, such as the caller's credential, cookies and address, and it must not be part of a key. Accept is in every key.
 */
export function selectingFields(fields: Fields): string[] {
  const names = (fields.get('vary') ?? '').split(',').map((name) => name.trim().toLowerCase());
  // Some servers compress without a Vary: a caller that cannot decode the body must not get it.
  if (fields.has('content-encoding')) names.push('accept-encoding');
  return [...new Set(names)].filter((name) => name !== '' && name !== 'accept' && isSent(name)).sort();
}
