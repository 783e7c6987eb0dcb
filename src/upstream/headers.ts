import { filterHeaders, type HeaderList, headerOf, type RequestContext } from '../context.ts';
import { type LinkRequest, rewritesBody } from './rewrite-links.ts';

/*
 * The one place that decides which headers pass between the caller and Patchworks, in both directions. Each group states why its
 * headers end at the gateway; every other header passes unchanged. The cache builds its keys from what is sent: see {@link sentValue}.
 */

/*
 * Headers by which proxies say who asked, where, how and with which method. They end at the gateway: a caller must not choose the
 * address that Patchworks sees, nor a host, path or method other than those that its permission was checked for.
 *
 * No registry of such names exists, and every product adds some, so this is a rule on the words of a name. test/trust/forwarding-headers.test.ts
 * holds the names that are known. Names are given as CGI reads them: in lower case, with a dash for all but letters and digits.
 */

/** The parties of a connection whose address a header may give. */
const PARTY =
  'client|caller|real|remote|connecting|source|src|peer|external|internal|viewer|visitor|socket|true|trusted';

const RULES: readonly string[] = [
  // Forwarded (RFC 7239), X-Forwarded-Host, Forwarded-For, X-Original-Forwarded-For, X-Forwarder-For.
  '(?:^|-)(?:forwarded|forwarder|forward-?for)',
  // X-Real-IP, CF-Connecting-IPv6, Remote-Addr, X-ClientIP.
  `(?:^|-)(?:${PARTY}|user|proxyuser|origin|originating)?-?(?:ip|ipv4|ipv6|addr)(?:-|$)`,
  // X-Envoy-External-Address, CloudFront-Viewer-Address, X-Client-Port, X-Remote-Host.
  `(?:^|-)(?:${PARTY})-?(?:address|port|host)(?:-|$)`,
  // Client-Cert (RFC 9440), X-SSL-Client-Verify, X-ARR-ClientCert.
  '(?:^|-)(?:client-?cert|ssl-client)',
  // X-HTTP-Method-Override, X-HTTP-Host-Override, X-Override-URL.
  '(?:^|-)override(?:-|$)',
  // X-Original-URL, X-Original-Method, X-Rewrite-URL, X-HTTP-Method, X-Proxy-URL.
  '^x-(?:original|rewrite|http|proxy)-',
  '^(?:via|proxy|proxy-host|proxy-url|request-uri|front-end-https)$',
  '^x-(?:host|method|scheme|url|uri|url-scheme|request-uri|https|coming-from)$',
  // Prefixes that products keep for themselves.
  '^(?:cf|fastly|fly|cloudfront|akamai|incap|wl-proxy|ali-cdn|cdn-src)-',
  '^x-(?:envoy|azure|appengine|arr|nf|vercel|akamai|sucuri|amz-cf)-',
];

const FORWARDING = new RegExp(RULES.join('|'));

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
  // The credential of a callback, which never expires.
  'patchworks-signature',
  // The transport sets these itself.
  ...['host', 'content-length'],
  // The gateway answers `Expect`, honours `Prefer` and sets a request id of its own.
  ...['expect', 'prefer', 'x-request-id'],
]);

export const REMOVED_FROM_RESPONSE: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  // They would give the account's session to a tenant.
  ...['set-cookie', 'set-cookie2', 'authorization', 'authentication-info', 'patchworks-signature'],
  // The account's limits. A tenant gets limits of its own.
  ...['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'],
  ...['ratelimit', 'ratelimit-policy', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'],
  // The gateway sets its own.
  ...['x-request-id', 'cache-status'],
  // It would lead callers past the gateway.
  'alt-svc',
]);

const TRACE_CONTEXT = new Set(['traceparent', 'tracestate']);
const TRACE_AND_BAGGAGE = new Set([...TRACE_CONTEXT, 'baggage']);

/**
 * The headers of a request to Patchworks. The credential comes first, so that no caller's header can push it over a limit. `Accept`
 * is `application/json` wherever the caller admits it, and `Content-Type` defaults to it: without them Laravel may answer in HTML.
 *
 * @param credential name and value; empty for one that is sent elsewhere
 * @param trace headers in place of the caller's trace context; an empty list also removes its baggage. Null: the caller's pass
 */
export function outboundHeaders(
  request: SentRequest & Pick<RequestContext, 'rawHeaders' | 'requestId'>,
  credential: HeaderList,
  trace: HeaderList | null,
): HeaderList {
  const { rawHeaders, route } = request;
  const { connection } = request.headers;
  // Its links will be rewritten.
  const uncompressed = rewritesBody(request);
  const replaced = trace === null ? null : trace.length === 0 ? TRACE_AND_BAGGAGE : TRACE_CONTEXT;
  const named = typeof connection === 'string' ? namedByConnection(connection) : null;
  const headers: HeaderList = [...credential];
  const accept = admitsJson(acceptOf(rawHeaders)) || named?.has('accept') === true;
  let contentType = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (!isSent(lower, route.secretHeaders) || named?.has(lower) || replaced?.has(lower)) continue;
    if (lower === 'accept' && accept) continue;
    if (lower === 'content-type') contentType = true;
    else if (lower === 'accept-encoding' && uncompressed) continue;
    headers.push(name, rawHeaders[i + 1] as string);
  }
  if (accept) headers.push('Accept', JSON_TYPE);
  if (!contentType) headers.push('Content-Type', JSON_TYPE);
  if (uncompressed) headers.push('Accept-Encoding', 'identity');
  if (trace !== null) headers.push(...trace);
  headers.push('X-Request-Id', request.requestId);
  return headers;
}

/**
 * @param keepLength whether the upstream's Content-Length is still the size of the body: for a stream, and for HEAD
 * @param secretHeaders an upstream may repeat what it was sent
 */
export function inboundHeaders(
  rawHeaders: readonly string[],
  keepLength: boolean,
  secretHeaders: ReadonlySet<string>,
): HeaderList {
  const connection = headerOf(rawHeaders, 'connection');
  const named = connection === undefined ? null : namedByConnection(connection);
  return filterHeaders(rawHeaders, (name) => {
    if (REMOVED_FROM_RESPONSE.has(name) || named?.has(name)) return false;
    if (secretHeaders.size > 0 && secretHeaders.has(headerName(name))) return false;
    return keepLength || name !== 'content-length';
  });
}

/** Another spelling of a name: CGI, and with it PHP, reads `X_Company` and `X-Company` as one variable, some servers `X.Company` too. */
const NOT_IN_PLAIN_NAMES = /[^a-z0-9-]/g;

/** The name of a header in the spelling in which it is compared. */
export function headerName(written: string): string {
  return written.toLowerCase().replace(NOT_IN_PLAIN_NAMES, '-');
}

/** Whether the gateway sets this header itself, or it belongs to a connection: no credential can have the name. */
export function isOwnHeader(written: string): boolean {
  return OWN.has(headerName(written));
}

const OWN: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  ...['host', 'content-length', 'content-type', 'expect', 'accept', 'accept-encoding', 'x-request-id'],
  ...['traceparent', 'tracestate', 'baggage'],
]);

/** Whether a caller's field of this name reaches the upstream. `lowerName` must be lower case. */
export function isSent(lowerName: string, secretHeaders?: ReadonlySet<string>): boolean {
  const name = lowerName.replace(NOT_IN_PLAIN_NAMES, '-');
  return !REMOVED_FROM_REQUEST.has(name) && !FORWARDING.test(name) && secretHeaders?.has(name) !== true;
}

const JSON_TYPE = 'application/json';

/** All `Accept` lines of a request, joined. */
function acceptOf(rawHeaders: readonly string[]): string | undefined {
  let joined: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'accept') continue;
    joined = joined === undefined ? (rawHeaders[i + 1] as string) : `${joined},${rawHeaders[i + 1]}`;
  }
  return joined;
}

/** The ranges that cover JSON, by how specific they are: the most specific one decides (RFC 9110 section 12.5.1). */
const JSON_RANGES: readonly string[] = ['*/*', 'application/*', JSON_TYPE];
const REFUSED = /^q=0(?:\.0{0,3})?$/;

/** Whether a caller takes JSON: by `application/json`, `application/*` or `*\/*` with a weight above 0, or because it does not say. */
function admitsJson(accept: string | undefined): boolean {
  if (accept === undefined || accept === JSON_TYPE || accept === '*/*') return true;
  let decidedBy = -1;
  let admitted = accept.trim() === '';
  for (const member of accept.toLowerCase().split(',')) {
    const [range = '', ...parameters] = member.split(';').map((part) => part.trim());
    const rank = JSON_RANGES.indexOf(range);
    if (rank < decidedBy || rank === -1) continue;
    const refused = parameters.some((parameter) => REFUSED.test(parameter));
    admitted = rank === decidedBy ? admitted || !refused : !refused;
    decidedBy = rank;
  }
  return admitted;
}

/** The parts of a request that decide which headers are sent. */
export interface SentRequest extends LinkRequest, Pick<RequestContext, 'headers'> {
  readonly route: LinkRequest['route'] & { readonly secretHeaders?: ReadonlySet<string> };
}

/**
 * The value of a field as the upstream receives it; undefined if it receives none. `lowerName` must be lower case. It holds for a request
 * that {@link isSentAsRead}.
 */
export function sentValue(request: SentRequest, lowerName: string): string | undefined {
  const value = request.headers[lowerName]?.toString();
  if (lowerName === 'accept') return admitsJson(value) ? JSON_TYPE : value;
  if (lowerName === 'accept-encoding' && rewritesBody(request)) return 'identity';
  if (lowerName === 'content-type') return value ?? JSON_TYPE;
  return isSent(lowerName, request.route.secretHeaders) ? value : undefined;
}

/** The cache reads these itself, joined as Node joins them, so a second line is no second reading. */
const READ_WHEN_REPEATED: ReadonlySet<string> = new Set(['cache-control', 'pragma', 'if-none-match']);

/**
 * Whether the upstream reads the same fields as the gateway. Not if `Connection` names a field that would be sent otherwise, if a name has
 * another spelling, or if a field comes twice: Node may drop the second, and the upstream the first.
 */
export function isSentAsRead(
  { rawHeaders, headers }: Pick<RequestContext, 'rawHeaders' | 'headers'>,
  secretHeaders?: ReadonlySet<string>,
): boolean {
  const { connection } = headers;
  if (typeof connection === 'string') {
    for (const name of namedByConnection(connection) ?? [])
      if (!OPTIONS_OF_CONNECTION.has(name) && isSent(name, secretHeaders)) return false;
  }
  const repeated = rawHeaders.length / 2 === Object.keys(headers).length ? null : new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (repeated === null && PLAIN_NAME.test(name)) continue;
    const lower = name.toLowerCase();
    if (!isSent(lower, secretHeaders)) continue;
    if (!PLAIN_NAME.test(lower)) return false;
    if (repeated?.has(lower) && !READ_WHEN_REPEATED.has(lower)) return false;
    repeated?.add(lower);
  }
  return true;
}

/** Connection options that are no field names. */
const OPTIONS_OF_CONNECTION: ReadonlySet<string> = new Set(['', 'close']);

const PLAIN_NAME = /^[A-Za-z0-9-]+$/;

/** Lower-case names that a Connection header lists, its options included; null for its two usual values. */
function namedByConnection(connection: string): ReadonlySet<string> | null {
  if (connection === 'keep-alive' || connection === 'close') return null;
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}
