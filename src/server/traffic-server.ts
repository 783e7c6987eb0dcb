import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Rejection, reject } from '../context.ts';
import type { Log } from '../ports.ts';
import { type ActiveRequestsOptions, trackRequests } from './active-requests.ts';
import { Connections } from './connections.ts';
import { createPortServer, type EdgeTls, type PortServer } from './listener.ts';
import { renderRawProblem } from './problem-response.ts';
import { createTrafficApp, dispatchTo, type TrafficRoutes } from './traffic-app.ts';

export interface TrafficOptions extends ActiveRequestsOptions, TrafficRoutes, EdgeTls {
  readonly limits: { readonly headersBytes: number; readonly headersTimeoutMs: number; readonly idleTimeoutMs: number };
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

/** The server of the traffic port, not listening yet. Every request that Node can parse goes to the Hono application. */
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
  const requests = trackRequests(options, connections);
  const dispatch = dispatchTo(createTrafficApp(options));

  // Bounded by maxHeaderSize; a limit by number would drop headers silently, and with them perhaps a second key.
  server.maxHeadersCount = 0;
  /** Connections on which the beginning of the next request is unknown. */
  const ending = new WeakSet<Socket>();
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // What was sent behind a malformed request has been parsed already, and may be a part of it.
    if (ending.has(incoming.socket)) return;
    const active = requests.begin(incoming, outgoing);
    if (active.malformed) ending.add(incoming.socket);
    dispatch(active);
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
    closeConnections: requests.closeConnections,
    inFlight: requests.count,
    async leave() {
      await connections.leave();
      await requests.idle();
    },
  };
}

/**
 * Bytes that are no HTTP request: there is no context, so the refusal is written by hand, and the connection ends, for
 * nobody knows where the next request would begin.
 */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket, log: Log): void {
  log.debug({ code: error.code, address: socket.remoteAddress }, 'malformed request');
  const refusal: Rejection =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? reject('bad_request', { detail: 'The headers are larger than the gateway accepts.' })
      : reject('bad_request');
  socket.end(renderRawProblem(refusal));
  socket.setTimeout(2_000, () => socket.destroy());
}
