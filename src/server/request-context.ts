import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import type { Clock } from '../clock.ts';
import {
  BodyTooLarge,
  type ClientDisconnect,
  newAccessRecord,
  type Rejection,
  type RequestBody,
  type RequestContext,
  reject,
} from '../context.ts';
import type { Tracer } from '../ports.ts';

export interface ReceiveOptions {
  readonly clock: Clock;
  /** Read anew for each request, so that a reload can change it. */
  readonly bodyBytes: () => number;
  readonly clientAddress: (incoming: IncomingMessage) => string;
  /** By which the caller came, for links. */
  readonly scheme: (incoming: IncomingMessage) => 'http' | 'https';
  /** Null: nothing is traced. */
  readonly tracer: Tracer | null;
}

export interface Reception {
  readonly context: RequestContext;
  readonly caller: Caller;
  /** Set for what no route may see; the context is complete enough for the log. */
  readonly rejection: Rejection | null;
  readonly malformed: boolean;
}

/** A request id of the caller's that may go into logs and headers as it is. */
const SANE_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;
/** RFC 3986 host and port, loosely: it goes into links that are sent to the same caller. */
const SANE_HOST = /^(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;
/** Turns what Node parsed into the context that travels through the stack. */
export function receive(incoming: IncomingMessage, outgoing: ServerResponse, options: ReceiveOptions): Reception {
  const method = incoming.method ?? '';
  const target = incoming.url ?? '';
  const body = requestBodyOf(incoming, outgoing, options.bodyBytes());
  const caller = new Caller();
  const given = incoming.headers['x-request-id'];
  const context: RequestContext = {
    requestId: typeof given === 'string' && SANE_REQUEST_ID.test(given) ? given : randomUUID(),
    method,
    target,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body: body.kind === 'body' ? body.body : null,
    clientAddress: options.clientAddress(incoming),
    baseUrl: `${options.scheme(incoming)}://${incoming.headers.host ?? 'localhost'}`,
    receivedAt: options.clock.now(),
    startedAt: options.clock.monotonic(),
    disconnect: caller,
    record: newAccessRecord(),
    trace: options.tracer === null ? null : options.tracer.request(incoming.headers),
  };
  // A body that breaks off has an owner who hears of it, or none who cares; it must never end the process.
  if (context.body !== null) incoming.on('error', () => {});
  const fault = faultOf(incoming);
  if (fault !== null) {
    return { context, caller, rejection: reject('bad_request', { internal: fault }), malformed: true };
  }
  return { context, caller, rejection: body.kind === 'too_large' ? reject('body_too_large') : null, malformed: false };
}

/**
 * More lines than any client sends; Apache and Envoy have the same limit. Some servers drop what is beyond theirs in silence,
 * and with it perhaps the account's credential: one caller could make Patchworks answer 401 to all.
 */
const MOST_HEADER_LINES = 100;

/** Why Node's parser let something pass that is no request for this gateway; null if nothing is wrong. */
export function faultOf(incoming: IncomingMessage): string | null {
  const { method, headers, httpVersion, rawHeaders } = incoming;
  const target = incoming.url ?? '';
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return `HTTP/${httpVersion}`;
  if (method === 'TRACE' || method === 'CONNECT') return `method ${method}`;
  if (!target.startsWith('/')) return 'the target is not of origin form';
  if (rawHeaders.length > 2 * MOST_HEADER_LINES) return `more than ${MOST_HEADER_LINES} header lines`;
  // RFC 9112 section 3.2; Node keeps the first of two and says nothing.
  if (headers.host === undefined ? httpVersion !== '1.0' : !isHost(headers.host) || hasSeveralHosts(rawHeaders))
    return 'malformed Host';
  // RFC 9112 section 6.1: with a coding we do not know, nobody can tell where the body ends; HTTP/1.0 knows none.
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && (coding.toLowerCase() !== 'chunked' || httpVersion === '1.0'))
    return 'unknown transfer coding';
  return null;
}

/**
 * A name or an address, spelled as a URL spells it: the Host goes into links, and another spelling (`127.1`, `[0:0::1]`) would be
 * refused by Hono's adapter in its own words.
 */
function isHost(host: string): boolean {
  if (!SANE_HOST.test(host) || !URL.canParse(`http://${host}`)) return false;
  return new URL(`http://${host}`).hostname === host.replace(/:\d+$/, '').toLowerCase();
}

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

export type BodyOf = { readonly kind: 'body'; readonly body: RequestBody | null } | { readonly kind: 'too_large' };

/**
 * The body of a request, unread. Node has checked the framing (one Content-Length or chunked, never both), so a declared
 * size is the size; only a chunked body has to be counted.
 */
export function requestBodyOf(incoming: IncomingMessage, outgoing: ServerResponse, limitBytes: number): BodyOf {
  const length = incoming.headers['content-length'];
  const chunked = incoming.headers['transfer-encoding'] !== undefined;
  if (length === undefined && !chunked) return { kind: 'body', body: null };
  const declaredBytes = length === undefined ? null : Number(length);
  if (declaredBytes === 0) return { kind: 'body', body: null };
  if (declaredBytes !== null && declaredBytes > limitBytes) return { kind: 'too_large' };
  const open = (): Readable => {
    if (waitsForContinue(incoming)) outgoing.writeContinue();
    return declaredBytes === null ? counted(incoming, limitBytes) : incoming;
  };
  return { kind: 'body', body: { declaredBytes, open } };
}

/** RFC 9110 section 10.1.1: other expectations mean nothing to us, and HTTP/1.0 knows no interim answers. */
function waitsForContinue({ headers, httpVersion }: IncomingMessage): boolean {
  return headers.expect?.toLowerCase() === '100-continue' && httpVersion === '1.1';
}

function counted(incoming: IncomingMessage, limitBytes: number): Readable {
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > limitBytes) done(new BodyTooLarge(`more than ${limitBytes} bytes`));
      else done(null, chunk);
    },
  });
  // It may break before anyone reads it, or after nobody does any more; that must not end the process.
  counter.on('error', () => {});
  // Not `pipeline`: it would destroy the request, and with it the connection that still has to carry the refusal.
  incoming.on('error', (error) => counter.destroy(error));
  incoming.on('close', () => {
    if (!incoming.readableEnded) counter.destroy(new Error('the caller broke off'));
  });
  incoming.pipe(counter);
  return counter;
}

/** The caller's end of the connection, as the stages see it. */
export class Caller implements ClientDisconnect {
  #left = false;
  #listeners: Set<() => void> | null = null;

  get happened(): boolean {
    return this.#left;
  }

  onDisconnect(run: () => void): () => void {
    if (this.#left) {
      run();
      return () => {};
    }
    this.#listeners ??= new Set();
    this.#listeners.add(run);
    return () => this.#listeners?.delete(run);
  }

  /** Called by the edge when the connection closed before the answer was complete. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    const listeners = this.#listeners;
    this.#listeners = null;
    if (listeners) for (const run of listeners) run();
  }
}
