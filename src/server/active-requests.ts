import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { batch, type Clock } from '../clock.ts';
import {
  type FinishedRequest,
  type ProxyResponse,
  type RequestContext,
  type ResponseBody,
  type Result,
  reject,
} from '../context.ts';
import type { Log } from '../ports.ts';
import { problems } from '../problem.ts';
import { sliced } from '../read-body.ts';
import type { Connections } from './connections.ts';
import { renderProblem } from './problem-response.ts';
import { type ReceivedRequest, type RequestContextOptions, receiveRequest } from './request-context.ts';
import type { StallWatch } from './stall-watch.ts';

/** An unread request body above this size ends the connection: reading it to the end costs more than a new connection. */
const WORTH_READING_BYTES = 64 * 1024;
/** A larger body leaves in slices: the connection shows no progress within a chunk. */
const WHOLE_BYTES = 64 * 1024;
/** Bounds for reading an unwanted body, so that a caller that is still sending gets to see the response. */
const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 2_000;

export interface ActiveRequestsOptions extends RequestContextOptions {
  readonly observer: { started(): void; finished(request: FinishedRequest): void };
  readonly log: Log;
  readonly clock: Clock;
}

/** A request, from its reception until its response has ended or its connection is gone. */
export interface ActiveRequest extends Omit<ReceivedRequest, 'disconnect'> {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  respond(result: Result): void;
  /** Logs an unexpected error; responds with 500 if nothing has been sent, else breaks the connection off. */
  fail(error: unknown): void;
}

/** Tracks the requests of the traffic port. The observer gets one call when a request begins, and one when it is over. */
export function trackRequests(options: ActiveRequestsOptions, connections: Connections, stalls: StallWatch) {
  const { observer, log, clock } = options;
  let count = 0;
  let closing = false;
  const whenIdle: (() => void)[] = [];

  const begin = (incoming: IncomingMessage, outgoing: ServerResponse): ActiveRequest => {
    const { context, disconnect, rejection, malformed } = receiveRequest(incoming, outgoing, options, stalls);
    const { socket } = incoming;
    let result: Result | null = null;
    let bodyBytes = (): number => 0;
    let isOver = false;

    const onClose = (): void => {
      if (isOver) return;
      isOver = true;
      connections.ended(socket, onClose);
      const aborted = !outgoing.writableFinished;
      if (aborted) disconnect.leave();
      disconnect.end();
      const refused = result?.kind === 'rejection' ? result : null;
      const unanswered = aborted && !hasBegun(outgoing, result);
      observer.finished({
        context,
        status: unanswered ? problems.client_closed.status : outgoing.statusCode,
        code: unanswered ? 'client_closed' : (refused?.code ?? null),
        bytes: bodyBytes(),
        aborted,
        durationMs: clock.monotonic() - context.startedAt,
        internal: refused?.internal ?? (aborted && stalls.hasCut(socket) ? 'stalled: limits.stallTimeout' : null),
      });
      count -= 1;
      if (count === 0) for (const resolve of whenIdle.splice(0)) resolve();
    };
    const send = (next: Result): void => {
      result = next;
      const response =
        next.kind === 'response' ? next : renderProblem(next, context.requestId, options.current().problems);
      bodyBytes = countBytes(response.body, socket);
      writeResponse({ incoming, outgoing, context }, response, closing || malformed);
    };

    count += 1;
    observer.started();
    connections.began(socket, onClose);
    outgoing.on('close', onClose);
    return {
      incoming,
      outgoing,
      context,
      rejection,
      malformed,
      respond: send,
      fail(error) {
        const { requestId, trace } = context;
        log.error({ requestId, ...(trace && { trace_id: trace.traceId }), err: error }, 'request failed');
        if (outgoing.headersSent) outgoing.destroy();
        else send(reject('internal'));
      },
    };
  };

  return {
    begin,
    count: () => count,
    /** From now on every response asks its caller to open a new connection, which may reach another replica. */
    closeConnections: () => {
      closing = true;
    },
    idle: (): Promise<void> => (count === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),
  };
}

/**
 * Whether the caller may have seen the beginning of the response. One whose turn among pipelined responses never came has no socket,
 * and one in memory begins when it ends: see `writeResponse`.
 */
function hasBegun(outgoing: ServerResponse, result: Result | null): boolean {
  if (!outgoing.headersSent || outgoing.socket === null) return false;
  return outgoing.writableEnded || (result?.kind === 'response' && result.body instanceof Readable);
}

/** Size of a response's body when its request is over. Only the connection knows the size of a stream. */
function countBytes(body: ResponseBody, socket: Socket): () => number {
  if (!(body instanceof Readable)) return () => body?.length ?? 0;
  const sentBefore = socket.bytesWritten;
  return () => socket.bytesWritten - sentBefore;
}

interface ResponseTarget {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly context: RequestContext;
}

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
