import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import type { ProxyResponse, RequestContext } from '../context.ts';

export interface Respondable {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly context: RequestContext;
}

/** A request body larger than this, left unread, is not worth reading to the end just to keep the connection. */
const WORTH_READING = 64 * 1024;
/** How much and how long of an unwanted body is read so that the caller, still sending, gets to see the answer. */
const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 2_000;

/** Writes an answer to the connection: the only place that does. `closing`: the connection ends with it. */
export function respond(to: Respondable, answer: ProxyResponse, closing: boolean): void {
  const { incoming, outgoing, context } = to;
  // An answer that waits for its turn on the connection does not hear of the end of it.
  if (outgoing.destroyed || outgoing.headersSent || incoming.socket.destroyed) {
    if (answer.body instanceof Readable) answer.body.destroy();
    return;
  }
  const { headers } = answer;
  headers.push('X-Request-Id', context.requestId);
  const unread = unwantedBody(incoming, context);
  if (closing || unread) headers.push('Connection', 'close');
  const { body } = answer;
  if (body instanceof Readable) {
    outgoing.writeHead(answer.status, headers);
    // An answer that breaks off must not look complete: pipeline destroys the connection.
    pipeline(body, outgoing, () => {});
    return;
  }
  if (body !== null) headers.push('Content-Length', String(body.length));
  outgoing.writeHead(answer.status, headers);
  if (unread) linger(incoming, outgoing, body);
  else if (body === null || context.method === 'HEAD') outgoing.end();
  else outgoing.end(body);
}

function unwantedBody(incoming: IncomingMessage, context: RequestContext): boolean {
  if (incoming.complete) return false;
  if (incoming.headers['transfer-encoding'] !== undefined) return true;
  const declared = Number(incoming.headers['content-length'] ?? 0);
  return declared > WORTH_READING || (declared > 0 && context.headers['expect'] !== undefined);
}

/**
 * Sends the answer but leaves the connection open a little while: closing it with unread bytes in the socket makes the
 * kernel reset it, and the caller would see a broken pipe instead of why it was refused.
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
}
