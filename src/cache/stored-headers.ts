import type { HeaderList } from '../context.ts';

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
 * What one answer carries for one request, and must never be repeated to another:
 * the connection's fields (RFC 9111 section 3.1), cookies and credentials, how much quota was left at the time, the
 * names of that request; and what is computed anew for each answer.
 *
 * Set-Cookie is stripped and does not keep an answer from being stored: the gateway lets cookies pass in neither
 * direction, so no answer depends on one.
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

/** RateLimit and RateLimit-Policy, X-RateLimit-Limit, X-Rate-Limit-Reset and whatever else upstreams make of it. */
const RATE_LIMIT = /^(?:x-)?rate-?limit/;

/** The header list of a stored answer. Its length is set when it leaves: links in it may be rewritten on the way. */
export function storedHeaders(list: readonly string[], fields: Fields): HeaderList {
  const hops = new Set((fields.get('connection') ?? '').split(',').map((name) => name.trim().toLowerCase()));
  const kept: HeaderList = [];
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] as string;
    const lower = name.toLowerCase();
    if (NEVER_STORED.has(lower) || RATE_LIMIT.test(lower) || hops.has(lower)) continue;
    kept.push(name, list[i + 1] as string);
  }
  return kept;
}

/**
 * Request fields that Vary may name without parting the answers: the caller's own credentials and cookies are never
 * sent to the upstream, so no answer depends on them (and they have no place in a key); Accept is in every key.
 */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set(['', 'accept', 'authorization', 'cookie', 'x-api-key']);

/** The request fields that select this answer, lower case and sorted (RFC 9111 section 4.1). */
export function selectingFields(fields: Fields): string[] {
  const named = (fields.get('vary') ?? '').split(',').map((name) => name.trim().toLowerCase());
  // An encoded body for callers that cannot decode it: some servers compress and forget to say Vary.
  if (fields.has('content-encoding')) named.push('accept-encoding');
  return [...new Set(named)].filter((name) => !WITHOUT_EFFECT.has(name)).sort();
}
