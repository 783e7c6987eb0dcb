import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import type { Authenticated } from '../auth/authenticate.ts';
import { denylist } from '../auth/authorise.ts';
import { type Handler, type RequestContext, reject, respond } from '../context.ts';
import type { BudgetView } from '../quota/budgets.ts';
import type { QuotaStore, TenantView } from '../quota/quota-store.ts';
import { type ActiveRequest, type ActiveRequestsOptions, trackRequests } from './active-requests.ts';
import { Connections } from './connections.ts';
import { createListener, type ListenerTls } from './listener.ts';
import { renderRawProblem } from './problem-response.ts';
import type { TrafficSnapshot } from './request-context.ts';
import { StallWatch } from './stall-watch.ts';

interface TrafficServerOptions extends ActiveRequestsOptions, ListenerTls {
  readonly limits: { readonly headersBytes: number; readonly headersTimeoutMs: number; readonly idleTimeoutMs: number };
}

/** Time for a whole request to arrive; a caller that drips its body is cut off then. */
const WHOLE_REQUEST_MS = 300_000;
/** Time for the caller of a malformed request to read the response. */
const LINGER_MS = 2_000;

/** The server of the traffic port, not listening yet. Every request that Node can parse goes to the Hono application. */
export function createTrafficServer(options: TrafficServerOptions) {
  const port = createListener(
    {
      maxHeaderSize: options.limits.headersBytes,
      headersTimeout: options.limits.headersTimeoutMs,
      requestTimeout: WHOLE_REQUEST_MS,
      keepAliveTimeout: options.limits.idleTimeoutMs,
      connectionsCheckingInterval: 1_000,
      // A missing Host is rejected with a problem document, like every malformed request.
      requireHostHeader: false,
    },
    options,
  );
  const { server } = port;
  const connections = new Connections(port, options.clock);
  const stalls = new StallWatch({
    ...options,
    stallTimeoutMs: () => options.current().stallTimeoutMs,
    sockets: connections.open,
  });
  const requests = trackRequests(options, connections, stalls);
  const dispatch = dispatchTo(createTrafficApp(options.current));

  // `maxHeaderSize` is the bound. A limit by number would drop headers silently, and with them perhaps a second key.
  server.maxHeadersCount = 0;
  server.once('listening', () => server.once('close', stalls.start()));
  /** Connections on which the beginning of the next request is unknown. */
  const ending = new WeakSet<Socket>();
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // Requests behind a malformed one have been parsed already, and may be a part of it.
    if (ending.has(incoming.socket)) return;
    const active = requests.begin(incoming, outgoing);
    if (active.malformed) ending.add(incoming.socket);
    connections.enter(incoming.socket, active.context.method, () => void dispatch(active));
  };
  server.on('request', onRequest);
  // With this listener Node does not send `100 Continue` by itself: see RequestBody.open.
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // A failed handshake is no connection yet; Handshakes responds to it.
    if (!connections.isOpen(socket as Socket)) return;
    if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
    // In the middle of a response there is no room for a second one.
    else if (connections.isActive(socket as Socket)) (socket as Socket).destroySoon();
    else rejectMalformed(error, socket as Socket, options);
  });
  return {
    server,
    renew: port.renew,
    destroyConnections: port.destroyConnections,
    closeConnections: requests.closeConnections,
    inFlight: requests.count,
    /** Accepts no more connections, and ends idle ones. Resolves when all are gone and no request is in flight. */
    async leave(): Promise<void> {
      await connections.leave();
      await requests.idle();
    },
  };
}

/**
 * Responds to bytes that are no HTTP request. There is no request context, so the rejection is written to the socket. The
 * connection ends, because the beginning of the next request is unknown.
 */
function rejectMalformed(
  error: NodeJS.ErrnoException,
  socket: Socket,
  { log, current }: Pick<TrafficServerOptions, 'log' | 'current'>,
): void {
  log.debug({ code: error.code, address: socket.remoteAddress }, 'malformed request');
  const more = error.code === 'HPE_HEADER_OVERFLOW' && { detail: 'The headers are larger than the gateway accepts.' };
  socket.end(renderRawProblem(reject('bad_request', { ...more }), current().problems));
  socket.setTimeout(LINGER_MS, () => socket.destroy());
}

interface TrafficEnv {
  readonly Bindings: { readonly active: ActiveRequest };
}

/**
 * The application of the traffic port: the gateway's own endpoints are routes, the pipeline is the catch-all. Responses are written
 * to Node's response directly, because a web `Response` would be converted twice (docs/decisions/0001).
 */
function createTrafficApp(current: () => TrafficSnapshot): Hono<TrafficEnv> {
  // Routes match the raw path. Hono's own reading resolves `..` and decodes escapes, which the pipeline must see.
  const app = new Hono<TrafficEnv>({
    getPath: (_, options) => options?.env?.active.context.target.split('?', 1)[0] ?? '',
  });
  const handledBy =
    (route: 'pipeline' | 'whoami') =>
    async ({ env: { active } }: Context<TrafficEnv>): Promise<Response> => {
      active.respond(active.rejection ?? (await current()[route](active.context)));
      return RESPONSE_ALREADY_SENT;
    };

  app.get('/_gateway/whoami', handledBy('whoami'));
  app.all('*', handledBy('pipeline'));
  // The catch-all matches every path; only a target that is no path, such as an absolute URL, gets here.
  app.notFound(({ env: { active } }) => {
    active.respond(active.rejection ?? reject('bad_request'));
    return RESPONSE_ALREADY_SENT;
  });
  app.onError((error, { env: { active } }) => {
    active.fail(error);
    return RESPONSE_ALREADY_SENT;
  });
  return app;
}

/** Returns a function that passes a request to the application, which responds to it. It never rejects. */
function dispatchTo(app: Hono<TrafficEnv>): (active: ActiveRequest) => Promise<void> {
  /** The adapter hands on Node's request and nothing of ours. A listener for each request would cost more, and so would a WeakMap. */
  const begun = new Map<IncomingMessage, ActiveRequest>();
  const listener = getRequestListener(
    async (request, bindings) => {
      const { incoming } = bindings as HttpBindings;
      const active = begun.get(incoming);
      if (active === undefined) throw new Error('a request that has not begun');
      // Now, not at its end: each table that V8 replaces keeps what it held until the next full collection.
      begun.delete(incoming);
      try {
        return await app.fetch(request, { active });
      } catch (error) {
        // Hono passes to its error handler only what is an Error.
        active.fail(error);
        return RESPONSE_ALREADY_SENT;
      }
    },
    {
      overrideGlobalObjects: false,
      autoCleanupIncoming: false,
      // HTTP/1.0 has no Host.
      hostname: 'localhost',
      // It receives no request. What it throws rejects the promise of the listener, which belongs to one.
      errorHandler: (error) => {
        throw error;
      },
    },
  );
  return async (active) => {
    begun.set(active.incoming, active);
    try {
      await listener(active.incoming, active.outgoing);
    } catch (error) {
      // The adapter makes no `Request` of some targets. Those that are no path, or come with a malformed Host, are rejected on
      // reception already, so that only paths with a backslash are left.
      if (error instanceof RequestError)
        active.respond(active.rejection ?? reject('path_not_canonical', { internal: error.message }));
      else active.fail(error);
    } finally {
      begun.delete(active.incoming);
    }
  };
}

/** `GET /_gateway/whoami`: the tenant's key or identity, permissions and remaining quota. It takes no slot. */
export function whoami(options: { readonly quotaStore: QuotaStore }): Handler<RequestContext & Authenticated> {
  return async ({ tenant, key }) => {
    const all = tenant.accounts.map((account) => ({ account, quota: options.quotaStore.peek(account, tenant.id) }));
    const budgets = all.flatMap(({ quota }) => quota.budgets ?? []);
    const body = {
      tenant: tenant.id,
      account: tenant.accounts[0],
      // `key` or `identity`.
      [key.kind]: {
        id: key.id,
        expires: key.expiresAtMs === null ? null : new Date(key.expiresAtMs).toISOString(),
        // Narrower than the tenant's permissions below.
        ...(key.allow !== null && { allow: key.allow.map((pattern) => pattern.text) }),
        ...(key.cidrs !== null && { cidrs: key.cidrs.cidrs }),
      },
      permissions: {
        allow: tenant.allow === null ? ['* /**'] : tenant.allow.map((pattern) => pattern.text),
        deniedUnlessNamed: denylist,
      },
      enforcement: tenant.enforcement,
      quota: all[0] && quotaOf(all[0].quota),
      // The first one is that above.
      ...(all.length > 1 && {
        accounts: Object.fromEntries(all.map(({ account, quota }) => [account, { quota: quotaOf(quota) }])),
      }),
      ...(budgets.length > 0 && { budgets: Object.fromEntries(budgets.map(budgetOf)) }),
    };
    const headers = ['Content-Type', 'application/json', 'Cache-Control', 'no-store'];
    return respond(200, headers, Buffer.from(`${JSON.stringify(body)}\n`));
  };
}

function quotaOf({ limit, burst, remaining, resetMs }: TenantView) {
  return { requestsPerMinute: limit, burst, remaining, fullInSeconds: Math.ceil(resetMs / 1000) };
}

function budgetOf({ id, per, timeZone, allowed: limit, used, left, resetsAt }: BudgetView) {
  return [id, { per, timeZone, limit, used, left, resets: new Date(resetsAt).toISOString() }];
}
