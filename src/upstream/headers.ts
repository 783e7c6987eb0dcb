import { type HeaderList, headerOf } from '../context.ts';

/*
 * The one place that decides which headers pass between the caller and Patchworks, in both directions. Each group states why its
 * headers end at the gateway; every other header passes unchanged.
 */

/** RFC 9110 section 7.6.1: these belong to one connection. The headers that `Connection` names are removed too. */
const HOP_BY_HOP = [
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade'],
];

const REMOVED_FROM_REQUEST = new Set([
  ...HOP_BY_HOP,
  'proxy-authorization',
  'http2-settings',
  // The tenant's key, and a session that is not the account's.
  ...['authorization', 'x-api-key', 'cookie', 'cookie2'],
  // The transport sets these itself.
  ...['host', 'content-length'],
  // The gateway answers `Expect`, honours `Prefer` and sets a request id of its own.
  ...['expect', 'prefer', 'x-request-id'],
  // Forwarding headers: a caller must not choose the address that Patchworks sees. All `x-forwarded…` names are removed too.
  ...['forwarded', 'via', 'client-ip', 'x-proxyuser-ip', 'x-originating-ip', 'x-remote-ip', 'x-remote-addr'],
  ...['x-real-ip', 'x-client-ip', 'x-cluster-client-ip', 'true-client-ip', 'cf-connecting-ip'],
  // Overrides of URL, host and method: permission was checked for the request line.
  ...['x-original-url', 'x-rewrite-url', 'x-original-host', 'x-original-uri', 'x-host'],
  ...['x-http-method', 'x-http-method-override', 'x-method-override'],
  // CGI turns it into HTTP_PROXY, which HTTP libraries take for the proxy to use.
  'proxy',
]);

const REMOVED_FROM_RESPONSE = new Set([
  ...HOP_BY_HOP,
  // They would give the account's session to a tenant.
  ...['set-cookie', 'set-cookie2', 'authorization', 'authentication-info'],
  // The account's limits. A tenant gets limits of its own.
  ...['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'],
  ...['ratelimit', 'ratelimit-policy', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'],
  // The gateway sets its own.
  ...['x-request-id', 'cache-status'],
  // It would lead callers past the gateway.
  'alt-svc',
]);

/** W3C Trace Context and W3C Baggage. */
const TRACE_CONTEXT = new Set(['traceparent', 'tracestate']);
const TRACE_AND_BAGGAGE = new Set([...TRACE_CONTEXT, 'baggage']);

export interface OutboundHeaderOptions {
  readonly rawHeaders: readonly string[];
  /** Value of the Connection header, if any. */
  readonly connection: string | undefined;
  readonly authorization: string;
  readonly requestId: string;
  /** Ask for a body without compression, because its links will be rewritten. */
  readonly identity: boolean;
  /** Headers in place of the caller's trace context; an empty list also removes its baggage. Null: the caller's pass. */
  readonly trace: HeaderList | null;
}

/**
 * The headers of a request to Patchworks. The credential comes first, so that no caller's header can push it over a limit. `Accept`
 * and `Content-Type` default to `application/json`, because without them Patchworks may not answer in JSON.
 */
export function outboundHeaders(options: OutboundHeaderOptions): HeaderList {
  const { rawHeaders, trace } = options;
  const replaced = trace === null ? null : trace.length === 0 ? TRACE_AND_BAGGAGE : TRACE_CONTEXT;
  const named = options.connection === undefined ? null : namedByConnection(options.connection);
  const headers: HeaderList = ['Authorization', options.authorization];
  let accept = false;
  let contentType = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (isRemovedFromRequest(lower) || named?.has(lower) || replaced?.has(lower)) continue;
    if (lower === 'accept') accept = true;
    else if (lower === 'content-type') contentType = true;
    else if (lower === 'accept-encoding' && options.identity) continue;
    headers.push(name, rawHeaders[i + 1] as string);
  }
  if (!accept) headers.push('Accept', 'application/json');
  if (!contentType) headers.push('Content-Type', 'application/json');
  if (options.identity) headers.push('Accept-Encoding', 'identity');
  if (trace !== null) headers.push(...trace);
  headers.push('X-Request-Id', options.requestId);
  return headers;
}

/** @param keepLength whether the upstream's Content-Length is still the size of the body: for a stream, and for HEAD */
export function inboundHeaders(rawHeaders: readonly string[], keepLength: boolean): HeaderList {
  const connection = headerOf(rawHeaders, 'connection');
  const named = connection === undefined ? null : namedByConnection(connection);
  const headers: HeaderList = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (REMOVED_FROM_RESPONSE.has(lower) || named?.has(lower)) continue;
    if (lower === 'content-length' && !keepLength) continue;
    headers.push(name, rawHeaders[i + 1] as string);
  }
  return headers;
}

/** CGI, and with it PHP, reads `X_Forwarded_For` and `X-Forwarded-For` as one variable. */
function isRemovedFromRequest(lowerName: string): boolean {
  const name = lowerName.includes('_') ? lowerName.replaceAll('_', '-') : lowerName;
  return REMOVED_FROM_REQUEST.has(name) || name.startsWith('x-forwarded');
}

/** Lower-case names that a Connection header lists; null for its two usual values. */
function namedByConnection(connection: string): ReadonlySet<string> | null {
  if (connection === 'keep-alive' || connection === 'close') return null;
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}
