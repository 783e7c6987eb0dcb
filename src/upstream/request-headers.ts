import type { HeaderList } from '../context.ts';

/**
 * Headers of a request that end at the gateway. The one place that decides what goes upstream.
 *
 * - hop-by-hop (RFC 9110 section 7.6.1), and in addition whatever Connection names
 * - the tenant's key, and cookies: the account's session is not the caller's
 * - `host` and `content-length`: the sender sets its own
 * - forwarding headers: nobody in front of the gateway may tell Patchworks where a request comes from
 * - method and URL overrides: permission was checked for the method and path of the request line
 * - `proxy`: CGI makes `HTTP_PROXY` of it, which libraries take for the proxy to use
 * - `expect`: answered by the gateway; `x-request-id`: set anew
 */
const endsHere = new Set([
  'connection',
  'keep-alive',
  'proxy',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'authorization',
  'x-api-key',
  'cookie',
  'cookie2',
  'host',
  'content-length',
  'expect',
  'x-request-id',
  'forwarded',
  'via',
  'client-ip',
  'x-proxyuser-ip',
  'x-originating-ip',
  'x-remote-ip',
  'x-remote-addr',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'x-original-url',
  'x-rewrite-url',
  'x-original-host',
  'x-original-uri',
  'x-host',
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'prefer',
]);

/** Of a trace (W3C Trace Context, W3C Baggage). */
const TRACE_CONTEXT = new Set(['traceparent', 'tracestate']);
const ALL_OF_A_TRACE = new Set([...TRACE_CONTEXT, 'baggage']);

export interface OutboundHeaderOptions {
  readonly rawHeaders: readonly string[];
  /** Value of the Connection header, if any. */
  readonly connection: string | undefined;
  readonly authorization: string;
  readonly requestId: string;
  /** Ask for a body that is not compressed, because links in it will be rewritten. */
  readonly identity: boolean;
  /** In place of the caller's; none: Patchworks hears nothing of a trace. Null: the caller's pass like any other. */
  readonly trace: HeaderList | null;
}

/**
 * The request's headers as Patchworks gets them: the account's credential (first, so that nothing a caller sends can push
 * it over a limit), those that pass, unchanged and in order, then the request id, and `application/json` for `Accept` and
 * `Content-Type` where they are missing (without them answers may not be JSON).
 */
export function outboundHeaders(options: OutboundHeaderOptions): HeaderList {
  const { rawHeaders, trace } = options;
  const replaced = trace === null ? null : trace.length === 0 ? ALL_OF_A_TRACE : TRACE_CONTEXT;
  const named = options.connection === undefined ? null : namedByConnection(options.connection);
  const headers: HeaderList = ['Authorization', options.authorization];
  let accept = false;
  let contentType = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (ends(lower) || named?.has(lower) || replaced?.has(lower)) continue;
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

/** CGI, and with it PHP, makes one variable of `X_Forwarded_For` and `X-Forwarded-For`. */
function ends(lowerName: string): boolean {
  const name = lowerName.includes('_') ? lowerName.replaceAll('_', '-') : lowerName;
  return endsHere.has(name) || name.startsWith('x-forwarded');
}

/** Lower-case names a Connection header lists, to be dropped with it; null for the two everyday values. */
export function namedByConnection(connection: string): ReadonlySet<string> | null {
  if (connection === 'keep-alive' || connection === 'close') return null;
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}
