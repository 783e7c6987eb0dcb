import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { batch } from '../batch.ts';
import type { ProxyResponse, RequestContext } from '../context.ts';
import { sliced } from '../read-body.ts';

export interface ResponseTarget {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly context: RequestContext;
}

/** An unread request body above this size ends the connection: reading it to the end costs more than a new connection. */
const WORTH_READING_BYTES = 64 * 1024;
/** A larger body leaves in slices: the connection shows no progress within a chunk. */
const WHOLE_BYTES = 64 * 1024;
/** Bounds for reading an unwanted body, so that a caller that is still sending gets to see the response. */
const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 2_000;

/**
 * Writes a response to the connection: the only place that does.
 *
 * @param closing the connection ends with this response
 */
export function writeResponse(to: ResponseTarget, response: ProxyResponse, closing: boolean): void {
  const { incoming, outgoing, context } = to;
  // A pipelined response that waits for its turn is not destroyed together with its connection.
  if (outgoing.destroyed || outgoing.headersSent || incoming.socket.destroyed) {
    if (response.body instanceof Readable) response.body.destroy();
    return;
  }
  const { headers } = response;
  headers.push('X-Request-Id', context.requestId);
  const unread = unwantedBody(incoming, context);
  if (closing || unread) headers.push('Connection', 'close');
  const { body } = response;
  if (body instanceof Readable) {
    outgoing.writeHead(response.status, headers);
    // A response that breaks off must not look complete: `pipeline` destroys the connection.
    pipeline(body, outgoing, () => {});
    return;
  }
  if (body !== null) headers.push('Content-Length', String(body.length));
  outgoing.writeHead(response.status, headers);
  if (unread) linger(incoming, outgoing, body);
  else if (body !== null && body.length > WHOLE_BYTES && context.method !== 'HEAD')
    pipeline(sliced(body), outgoing, () => {});
  else end({ outgoing, body: context.method === 'HEAD' ? null : body });
}

/** Responses of one turn of the event loop leave in a row: waking the reader for each costs more than the write. */
const end = batch<{ readonly outgoing: ServerResponse; readonly body: Buffer | null }>((responses) => {
  for (const { outgoing, body } of responses) {
    // The caller may have disconnected meanwhile; Node would report such a response as finished.
    if (outgoing.destroyed || outgoing.socket?.destroyed === true) continue;
    if (body === null) outgoing.end();
    else outgoing.end(body);
  }
});

function unwantedBody(incoming: IncomingMessage, context: RequestContext): boolean {
  if (incoming.complete) return false;
  if (incoming.headers['transfer-encoding'] !== undefined) return true;
  const declared = Number(incoming.headers['content-length'] ?? 0);
  return declared > WORTH_READING_BYTES || (declared > 0 && context.headers['expect'] !== undefined);
}

/**
 * Sends the response and keeps the connection open for a moment. If it closed with unread bytes in the socket, the kernel would
 * reset it, and the caller would see a broken pipe instead of the rejection.
 */
function linger(incoming: IncomingMessage, outgoing: ServerResponse, body: Buffer | null): void {
  if (body !== null) outgoing.write(body);
  else outgoing.flushHeaders();
  let left = LINGER_BYTES;
  const finish = (): void => {
    clearTimeout(timer);
    incoming.off('data', count);
    outgoing.end();
  };
  const count = (chunk: Buffer): void => {
    left -= chunk.length;
    if (left <= 0) finish();
  };
  const timer = setTimeout(finish, LINGER_MS);
  timer.unref();
  incoming.on('data', count);
  incoming.once('end', finish);
  incoming.once('close', () => clearTimeout(timer));
  // It was held back if there was no memory for it.
  incoming.resume();
}
