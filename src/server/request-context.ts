import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { TLSSocket } from 'node:tls';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import type { AddressRanges } from '../auth/tenant.ts';
import type { Clock } from '../clock.ts';
import {
  AccessRecord,
  BodyTooLarge,
  DisconnectSignal,
  type Handler,
  type Rejection,
  type RequestBody,
  type RequestContext,
  reject,
} from '../context.ts';
import type { Tracer } from '../ports.ts';
import type { ProblemOptions } from '../problem.ts';
import { preferredWaitMs, urgencyOf } from '../quota/rate-limit.ts';
import { certificateUrisOf } from './connections.ts';
import type { StallWatch } from './stall-watch.ts';

/** The parts of the config snapshot in force that the traffic port uses. */
export interface TrafficSnapshot {
  readonly bodyBytes: number;
  /** A transfer that makes no progress for this long is cut. */
  readonly stallTimeoutMs: number;
  readonly clientAddress: (incoming: IncomingMessage) => string;
  readonly problems: ProblemOptions;
  /** Scheme of the caller's URL, for links. */
  readonly scheme: (incoming: IncomingMessage) => 'http' | 'https';
  readonly pipeline: Handler<RequestContext>;
  readonly whoami: Handler<RequestContext>;
}

export interface RequestContextOptions {
  readonly clock: Clock;
  /** Called for each request, so that a reload can replace the snapshot. */
  readonly current: () => TrafficSnapshot;
  readonly tracer: Tracer | null;
}

export interface ReceivedRequest {
  readonly context: RequestContext;
  readonly disconnect: DisconnectSignal;
  /** Set for what no route may see: malformed requests, and bodies above the limit. Their context is enough for the access log. */
  readonly rejection: Rejection | null;
  /** The beginning of the next request is unknown: the connection ends with the response. */
  readonly malformed: boolean;
}

/** A caller's request id of this form goes into logs and headers as it is. */
const SANE_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;
/** Host and port, without what RFC 3986 allows and no name has: the Host goes into links. */
const SANE_HOST = /^(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;

export function receiveRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: RequestContextOptions,
  stalls: Pick<StallWatch, 'uploading'>,
): ReceivedRequest {
  const method = incoming.method ?? '';
  const target = incoming.url ?? '';
  const { bodyBytes, clientAddress, scheme } = options.current();
  const body = requestBodyOf(incoming, outgoing, bodyBytes, stalls);
  const disconnect = new DisconnectSignal();
  const given = incoming.headers['x-request-id'];
  const context: RequestContext = {
    requestId: typeof given === 'string' && SANE_REQUEST_ID.test(given) ? given : randomUUID(),
    method,
    target,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body,
    clientAddress: clientAddress(incoming),
    certificateUris: incoming.socket instanceof TLSSocket ? certificateUrisOf(incoming.socket, options.clock) : [],
    baseUrl: `${scheme(incoming)}://${incoming.headers.host ?? 'localhost'}`,
    receivedAt: options.clock.now(),
    startedAt: options.clock.monotonic(),
    disconnect,
    lifetime: disconnect,
    record: new AccessRecord(),
    trace: options.tracer === null ? null : options.tracer.request(incoming.headers),
  };
  const { priority, prefer } = incoming.headers;
  if (priority !== undefined) context.record.urgency = urgencyOf(priority);
  if (prefer !== undefined) context.record.preferredWaitMs = preferredWaitMs(prefer);
  // An error without a listener would end the process.
  if (body !== null) incoming.on('error', () => {});
  const fault = faultOf(incoming);
  let rejection: Rejection | null = null;
  if (fault !== null) rejection = reject('bad_request', { internal: fault });
  else if ((body?.declaredBytes ?? 0) > bodyBytes)
    rejection = reject('body_too_large', { detail: tooLarge(bodyBytes) });
  return { context, disconnect, rejection, malformed: fault !== null };
}

function tooLarge(limitBytes: number): string {
  return `The gateway accepts request bodies of ${limitBytes} bytes at most. Send a smaller body.`;
}

/**
 * Clients send fewer; Apache and Envoy have the same limit. Some servers silently drop lines above their own limit, and with them
 * perhaps the account's credential: one caller could make Patchworks answer 401 to all.
 */
const MAX_HEADER_LINES = 100;

/** Why a request that Node's parser accepts is malformed for a gateway between unknown proxies (docs/decisions/0017); else null. */
export function faultOf(incoming: IncomingMessage): string | null {
  const { method, headers, httpVersion, rawHeaders } = incoming;
  const target = incoming.url ?? '';
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return `HTTP/${httpVersion}`;
  if (method === 'TRACE' || method === 'CONNECT') return `method ${method}`;
  if (!target.startsWith('/')) return 'the target is not of origin form';
  if (rawHeaders.length > 2 * MAX_HEADER_LINES) return `more than ${MAX_HEADER_LINES} header lines`;
  // RFC 9112 section 3.2; Node silently keeps the first of two.
  if (
    headers.host === undefined ? httpVersion !== '1.0' : !knownHosts.memo(headers.host) || hasSeveralHosts(rawHeaders)
  )
    return 'malformed Host';
  // RFC 9112 section 6.1: the end of a body with an unknown coding is unknown, and HTTP/1.0 has no codings.
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && (coding.toLowerCase() !== 'chunked' || httpVersion === '1.0'))
    return 'unknown transfer coding';
  return null;
}

/**
 * A name or an address, spelled as a URL spells it. The Host goes into links, and Hono's adapter would reject another spelling
 * (`127.1`, `[0:0::1]`) in its own words.
 */
function isHost(host: string): boolean {
  if (!SANE_HOST.test(host) || !URL.canParse(`http://${host}`)) return false;
  return new URL(`http://${host}`).hostname === host.replace(/:\d+$/, '').toLowerCase();
}

/** Callers use the same few names, and a URL is expensive to parse. */
const knownHosts = new LRUCache<string, boolean>({ max: 100, memoMethod: isHost });

function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let found = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue;
    if (found) return true;
    found = true;
  }
  return false;
}

/**
 * The body of a request, unread. Node has checked the framing (one Content-Length or chunked, never both), so a declared size is
 * the size, and only a chunked body has to be counted.
 */
function requestBodyOf(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  limitBytes: number,
  stalls: Pick<StallWatch, 'uploading'>,
): RequestBody | null {
  const length = incoming.headers['content-length'];
  if (length === undefined && incoming.headers['transfer-encoding'] === undefined) return null;
  const declaredBytes = length === undefined ? null : Number(length);
  if (declaredBytes === 0) return null;
  const open = (): Readable => {
    const { headers, httpVersion } = incoming;
    // RFC 9110 section 10.1.1: other expectations are ignored, and HTTP/1.0 has no interim responses.
    if (headers.expect?.toLowerCase() === '100-continue' && httpVersion === '1.1') outgoing.writeContinue();
    stalls.uploading(incoming);
    return declaredBytes === null ? counted(incoming, limitBytes) : incoming;
  };
  return { declaredBytes, open };
}

function counted(incoming: IncomingMessage, limitBytes: number): Readable {
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > limitBytes) done(new BodyTooLarge(tooLarge(limitBytes)));
      else done(null, chunk);
    },
  });
  // It may break while it has no reader; an error without a listener would end the process.
  counter.on('error', () => {});
  // `pipeline` would destroy the request, and with it the connection that still has to carry the rejection.
  incoming.on('error', (error) => counter.destroy(error));
  incoming.on('close', () => {
    if (!incoming.readableEnded) counter.destroy(new Error('the caller broke off'));
  });
  incoming.pipe(counter);
  return counter;
}

/**
 * The caller's address: the peer of the connection, or, if that is a trusted proxy, the nearest address in X-Forwarded-For that is
 * not one. Addresses left of that were written by the caller itself and are ignored.
 *
 * @param onIgnored called for each X-Forwarded-For of a peer that is no trusted proxy
 */
export function clientAddressOf(
  proxies: AddressRanges,
  onIgnored: (peer: string) => void = () => {},
): (incoming: IncomingMessage) => string {
  return (incoming) => {
    const peer = normalise(incoming.socket.remoteAddress ?? '');
    const forwarded = incoming.headers['x-forwarded-for'];
    if (typeof forwarded !== 'string') return peer;
    if (!proxies.includes(peer)) {
      onIgnored(peer);
      return peer;
    }
    const hops = forwarded.split(',').map((hop) => normalise(hop.trim()));
    for (const hop of hops.reverse()) {
      if (!ipaddr.isValid(hop)) return peer;
      if (!proxies.includes(hop)) return hop;
    }
    return peer;
  };
}

/**
 * The scheme of the caller's URL: that of the connection, or, if its peer is a trusted proxy, the first value of X-Forwarded-Proto,
 * which the proxy nearest to the caller wrote. A caller whose proxy passes on a value of its own gets the links it asked for, and
 * other callers do not. No header names the host of links: a cache in front could be made to keep links to another site.
 */
export function schemeOf(proxies: AddressRanges): (incoming: IncomingMessage) => 'http' | 'https' {
  return (incoming) => {
    const own = 'encrypted' in incoming.socket ? 'https' : 'http';
    const forwarded = incoming.headers['x-forwarded-proto'];
    if (typeof forwarded !== 'string' || !proxies.includes(incoming.socket.remoteAddress ?? '')) return own;
    const first = forwarded.split(',', 1)[0]?.trim().toLowerCase();
    return first === 'http' || first === 'https' ? first : own;
  };
}

/** Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
const WITH_PORT = /^(?:(\d+\.\d+\.\d+\.\d+):\d+|\[([^\]]+)\](?::\d+)?)$/;

/** Gives each address a single spelling: an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`, `::ffff:a00:1`) is the IPv4 address. */
function normalise(written: string): string {
  if (!written.includes(':')) return written;
  const [, v4, v6] = WITH_PORT.exec(written) ?? [];
  const address = v4 ?? v6 ?? written;
  if (!address.includes(':') || !ipaddr.isValid(address)) return address;
  return ipaddr.process(address).toString();
}
