import type { HeaderList } from '../context.ts';
import { headerOf } from '../context.ts';
import { namedByConnection } from './request-headers.ts';

/**
 * Headers of an answer that end at the gateway. The one place that decides what comes down.
 *
 * - hop-by-hop, and whatever Connection names
 * - cookies: they would hand the account's session to a tenant
 * - the account's limits: a tenant gets its own, from the quota
 * - `content-length`: set anew where the body is in memory (see {@link inboundHeaders})
 * - `x-request-id`: the gateway's own; `alt-svc`: it would lead callers past the gateway
 */
const endsHere = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'set-cookie',
  'set-cookie2',
  'authorization',
  'authentication-info',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'ratelimit',
  'ratelimit-policy',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
  'x-request-id',
  'alt-svc',
  'cache-status',
]);

/** @param keepLength whether the upstream's Content-Length still tells the size of the body: a stream, or HEAD. */
export function inboundHeaders(raw: readonly string[], keepLength: boolean): HeaderList {
  const connection = headerOf(raw, 'connection');
  const named = connection === undefined ? null : namedByConnection(connection);
  const headers: HeaderList = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    const lower = name.toLowerCase();
    if (endsHere.has(lower) || named?.has(lower)) continue;
    if (lower === 'content-length' && !keepLength) continue;
    headers.push(name, raw[i + 1] as string);
  }
  return headers;
}
