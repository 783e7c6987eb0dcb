import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import { emptyNotes, type Received, type Refusal, refuse } from '../exchange.ts';
import { Caller } from './caller.ts';
import { requestBodyOf } from './request-body.ts';

export interface ReceiveOptions {
  readonly clock: Clock;
  readonly bodyBytes: number;
  readonly clientAddress: (incoming: IncomingMessage) => string;
}

export type Reception =
  | { readonly kind: 'received'; readonly exchange: Received; readonly caller: Caller }
  /** Not a request the stages should see; the exchange is complete enough for the log. */
  | { readonly kind: 'malformed'; readonly exchange: Received; readonly caller: Caller; readonly refusal: Refusal };

/** A request id of the caller's that may go into logs and headers as it is. */
const SANE_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;
/** RFC 3986 host and port, loosely: it goes into links that are sent to the same caller. */
const SANE_HOST = /^(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;

/** Turns what Node parsed into the exchange that travels through the stack. */
export function receive(incoming: IncomingMessage, outgoing: ServerResponse, options: ReceiveOptions): Reception {
  const method = incoming.method ?? '';
  const target = incoming.url ?? '';
  const body = requestBodyOf(incoming, outgoing, options.bodyBytes);
  const caller = new Caller();
  const given = incoming.headers['x-request-id'];
  const exchange: Received = {
    requestId: typeof given === 'string' && SANE_REQUEST_ID.test(given) ? given : randomUUID(),
    method,
    target,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body: body.kind === 'body' ? body.body : null,
    clientAddress: options.clientAddress(incoming),
    baseUrl: `${'encrypted' in incoming.socket ? 'https' : 'http'}://${incoming.headers.host ?? 'localhost'}`,
    receivedAt: options.clock.now(),
    startedAt: options.clock.monotonic(),
    hangUp: caller,
    notes: emptyNotes(),
  };
  if (body.kind === 'too_large') return { kind: 'malformed', exchange, caller, refusal: refuse('body_too_large') };
  const fault = faultOf(incoming, method, target);
  return fault === null
    ? { kind: 'received', exchange, caller }
    : { kind: 'malformed', exchange, caller, refusal: refuse('bad_request', { internal: fault }) };
}

function faultOf(incoming: IncomingMessage, method: string, target: string): string | null {
  if (method === 'TRACE' || method === 'CONNECT') return `method ${method}`;
  if (!target.startsWith('/')) return 'the target is not of origin form';
  if (incoming.headers.host !== undefined && !SANE_HOST.test(incoming.headers.host)) return 'malformed Host';
  return null;
}
