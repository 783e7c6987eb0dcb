import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import type { Clock } from '../clock.ts';
import {
  type Handler,
  type ProxyResponse,
  type Rejection,
  type RequestContext,
  type Result,
  reject,
} from '../context.ts';
import type { Log } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import type { Caller } from './caller.ts';
import { Connections } from './connections.ts';
import { renderMalformed } from './malformed.ts';
import { createPortServer, type EdgeTls, type PortServer } from './port-server.ts';
import { renderProblem } from './problem-json.ts';
import { faultOf, type ReceiveOptions, receive } from './receive.ts';
import { respond } from './respond.ts';

/** What the edge tells of a request when it is over. */
export interface Finished {
  readonly context: RequestContext;
  /** 499 where the caller left before there was an answer. */
  readonly status: number;
  readonly code: ProblemCode | null;
  readonly bytes: number;
  /** The connection closed before the answer was complete. */
  readonly aborted: boolean;
  readonly durationMs: number;
  /** For the log only. */
  readonly internal: string | null;
}

export interface TrafficObserver {
  started(): void;
  finished(request: Finished): void;
}

export interface TrafficOptions extends ReceiveOptions, EdgeTls {
  /** The stack. Read anew for each request, so that a reload can swap it. */
  readonly handler: () => Handler<RequestContext>;
  /** `GET /_gateway/whoami`. */
  readonly whoami: () => Handler<RequestContext>;
  readonly limits: { readonly headersBytes: number; readonly headersTimeoutMs: number; readonly idleTimeoutMs: number };
  readonly observer: TrafficObserver;
  readonly log: Log;
  readonly clock: Clock;
}

export interface Traffic extends Pick<PortServer, 'renew' | 'destroyConnections'> {
  readonly server: Server;
  /** From now on every answer asks its caller to open a new connection, elsewhere. */
  closeConnections(): void;
  inFlight(): number;
  /** Accepts no more, and ends connections as they become idle. Resolves when all are gone and nothing is in flight. */
  leave(): Promise<void>;
}

/** A request may take this long to arrive in full; a caller that drips its body is cut off then. */
const WHOLE_REQUEST_MS = 300_000;
const WHOAMI = '/_gateway/whoami';

/**
 * The traffic port. Hono knows the own endpoints; all else goes through the stack. Answers are written to Node's response
 * directly, so that nothing is converted on the way (docs/decisions/0001).
 */
export function createTraffic(options: TrafficOptions): Traffic {
  const port = createPortServer(
    {
      maxHeaderSize: options.limits.headersBytes,
      headersTimeout: options.limits.headersTimeoutMs,
      requestTimeout: WHOLE_REQUEST_MS,
      keepAliveTimeout: options.limits.idleTimeoutMs,
      connectionsCheckingInterval: 1_000,
      // Missing Host is refused like everything else, as a problem document.
      requireHostHeader: false,
    },
    options,
  );
  const { server } = port;
  const connections = new Connections(port, options.clock, options.limits.headersTimeoutMs);
  const shift = new Shift(options, connections);
  const app = new Hono<{ Bindings: HttpBindings }>();
  const through = (handler: () => Handler<RequestContext>) => (c: Context<{ Bindings: HttpBindings }>) => {
    shift.take(c.env.incoming, c.env.outgoing, handler(), null);
    return RESPONSE_ALREADY_SENT;
  };
  const stack = through(options.handler);
  const own = through(options.whoami);
  app.get(WHOAMI, own);
  app.all('*', stack);
  const listener = getRequestListener(app.fetch as (request: Request, env: unknown) => Response | Promise<Response>, {
    overrideGlobalObjects: false,
    autoCleanupIncoming: false,
    hostname: 'localhost',
  });

  // Bounded by maxHeaderSize; a limit by number would drop headers silently, and with them perhaps a second key.
  server.maxHeadersCount = 0;
  /** Connections of which nobody knows any more where the next request begins. */
  const ending = new WeakSet<Socket>();
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // What was sent behind a malformed request has been parsed already, and may be a part of it.
    if (ending.has(incoming.socket)) return;
    const fault = faultOf(incoming);
    if (fault !== null) ending.add(incoming.socket);
    // Nearly everything is for the stack, and the way to it through a `Request` and a router was a tenth of a cached answer. What
    // Hono's adapter would refuse in its own words does not get that far either.
    if (fault === null && isExactly(incoming, WHOAMI)) void listener(incoming, outgoing);
    else shift.take(incoming, outgoing, options.handler(), fault);
  };
  server.on('request', onRequest);
  // With a listener of our own Node does not say `100 Continue` by itself: see RequestBody.open.
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // Not a connection yet: its handshake has failed, which Handshakes sees to.
    if (!connections.isOpen(socket as Socket)) return;
    if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
    // In the middle of an answer there is no room for another one: what is written goes out, and that is all.
    else if (connections.isAnswering(socket as Socket)) (socket as Socket).destroySoon();
    else refuseMalformed(error, socket as Socket, options.log);
  });
  return {
    server,
    renew: port.renew,
    destroyConnections: port.destroyConnections,
    closeConnections: () => shift.close(),
    inFlight: () => shift.inFlight,
    async leave() {
      await connections.leave();
      await shift.idle();
    },
  };
}

/** An own endpoint answers to its plain spelling alone: Hono would match what WHATWG makes of a URL, `..` resolved. */
function isExactly(incoming: IncomingMessage, path: string): boolean {
  const target = incoming.url ?? '';
  return target.startsWith(path) && (target.length === path.length || target[path.length] === '?');
}

/** The requests in flight, from reception to the end of the answer. */
class Shift {
  readonly #options: TrafficOptions;
  #closing = false;
  #inFlight = 0;
  #whenIdle: (() => void)[] = [];
  readonly #connections: Connections;

  constructor(options: TrafficOptions, connections: Connections) {
    this.#options = options;
    this.#connections = connections;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  close(): void {
    this.#closing = true;
  }

  idle(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  take(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    handler: Handler<RequestContext>,
    fault: string | null,
  ): void {
    const { context, caller, refusal } = receive(incoming, outgoing, fault, this.#options);
    const end = new Ending(incoming.socket);
    this.#inFlight += 1;
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      this.#connections.ended(incoming.socket, over);
      this.#finish(outgoing, context, caller, end);
    };
    this.#connections.began(incoming.socket, over);
    this.#options.observer.started();
    outgoing.on('close', over);
    const answerWith = (outcome: Result): void => {
      end.outcome = outcome;
      respond({ incoming, outgoing, context }, this.#render(context, outcome), this.#closing || fault !== null);
    };
    if (refusal !== null) {
      answerWith(refusal);
      return;
    }
    const fail = (error: unknown): void => {
      const { requestId, trace } = context;
      this.#options.log.error({ requestId, ...(trace && { trace_id: trace.traceId }), err: error }, 'request failed');
      if (outgoing.headersSent) outgoing.destroy();
      else answerWith(reject('internal'));
    };
    try {
      const outcome = handler(context);
      if (outcome instanceof Promise) outcome.then(answerWith).catch(fail);
      else answerWith(outcome);
    } catch (error) {
      fail(error);
    }
  }

  #render(context: RequestContext, outcome: Result): ProxyResponse {
    return outcome.kind === 'response' ? outcome : renderProblem(outcome, context.requestId);
  }

  #finish(outgoing: ServerResponse, context: RequestContext, caller: Caller, end: Ending): void {
    const aborted = !outgoing.writableFinished;
    if (aborted) caller.leave();
    const { outcome } = end;
    this.#options.observer.finished({
      context,
      status: outgoing.headersSent ? outgoing.statusCode : 499,
      code: outcome?.kind === 'rejection' && !(aborted && !outgoing.headersSent) ? outcome.code : null,
      bytes: end.bytes(),
      aborted,
      durationMs: this.#options.clock.monotonic() - context.startedAt,
      internal: outcome?.kind === 'rejection' ? (outcome.internal ?? null) : null,
    });
    this.#inFlight -= 1;
    if (this.#inFlight === 0) {
      const waiting = this.#whenIdle;
      this.#whenIdle = [];
      for (const resolve of waiting) resolve();
    }
  }
}

/** Holds what a request ended with until its connection is done with it. */
class Ending {
  outcome: Result | null = null;
  readonly #socket: Socket;
  readonly #before: number;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#before = socket.bytesWritten;
  }

  /** Size of the answer: of its body where that was in memory, else all that the connection has sent since. */
  bytes(): number {
    const { outcome } = this;
    if (outcome?.kind === 'response' && Buffer.isBuffer(outcome.body)) return outcome.body.length;
    return this.#socket.bytesWritten - this.#before;
  }
}

/**
 * Bytes that are no HTTP request: there is no request, so the refusal is written by hand, and the connection ends, for
 * nobody knows where the next request would begin.
 */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket, log: Log): void {
  log.debug({ code: error.code, address: socket.remoteAddress }, 'malformed request');
  const refusal: Rejection =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? reject('bad_request', { detail: 'The headers are larger than the gateway accepts.' })
      : reject('bad_request');
  socket.end(renderMalformed(refusal));
  socket.setTimeout(2_000, () => socket.destroy());
}
