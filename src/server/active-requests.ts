import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';
import {
  type FinishedRequest,
  type Rejection,
  type RequestContext,
  type ResponseBody,
  type Result,
  reject,
} from '../context.ts';
import type { Log } from '../ports.ts';
import { problems } from '../problem.ts';
import type { Connections } from './connections.ts';
import { renderProblem } from './problem-response.ts';
import { type RequestContextOptions, receiveRequest } from './request-context.ts';
import { writeResponse } from './response-writer.ts';
import type { StallWatch } from './stall-watch.ts';

export interface RequestObserver {
  started(): void;
  finished(request: FinishedRequest): void;
}

export interface ActiveRequestsOptions extends RequestContextOptions {
  readonly observer: RequestObserver;
  readonly log: Log;
  readonly clock: Clock;
}

/** A request, from its reception until its response has ended or its connection is gone. */
export interface ActiveRequest {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly context: RequestContext;
  /** Set for what no route may see: malformed requests, and bodies above the limit. */
  readonly rejection: Rejection | null;
  /** The beginning of the next request is unknown: the connection ends with the response. */
  readonly malformed: boolean;
  /** Once only. */
  respond(result: Result): void;
  /** Logs an unexpected error; responds with 500 if nothing has been sent, else breaks the connection off. */
  fail(error: unknown): void;
}

export interface ActiveRequests {
  /** @param onOver called when the response has ended, or its connection is gone */
  begin(incoming: IncomingMessage, outgoing: ServerResponse, onOver: () => void): ActiveRequest;
  count(): number;
  /** From now on every response asks its caller to open a new connection. */
  closeConnections(): void;
  /** Resolves when none is active. */
  idle(): Promise<void>;
}

/** Tracks the requests of the traffic port. The observer gets one call when a request begins, and one when it is over. */
export function trackRequests(
  options: ActiveRequestsOptions,
  connections: Connections,
  stalls: StallWatch,
): ActiveRequests {
  const { observer, log, clock } = options;
  let count = 0;
  let closing = false;
  const whenIdle: (() => void)[] = [];

  const begin: ActiveRequests['begin'] = (incoming, outgoing, onOver) => {
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
        internal: refused?.internal ?? (stalls.hasCut(socket) ? 'stalled: limits.stallTimeout' : null),
      });
      count -= 1;
      if (count === 0) for (const resolve of whenIdle.splice(0)) resolve();
      onOver();
    };
    const send = (next: Result): void => {
      result = next;
      const response = next.kind === 'response' ? next : renderProblem(next, context.requestId);
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
    closeConnections: () => {
      closing = true;
    },
    idle: () => (count === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),
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
