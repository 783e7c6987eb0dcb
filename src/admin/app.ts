import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import type { Log } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { createListener, type Listener, type ListenerTls } from '../server/listener.ts';
import { ADMIN_HEADERS, adminProblem } from './problem-response.ts';
import { type Purge, readPurge } from './purge.ts';
import { type ReloadOutcome, reloadResponse } from './reload.ts';
import type { Page } from './ui/page.ts';

export interface AdminOptions {
  /**
   * Null: no token is needed; the port listens on loopback by default. Never empty, because a request without a token would match.
   */
  readonly token: Secret | null;
  readonly guessLimit: GuessLimit;
  readonly readiness: () => { readonly ready: boolean; readonly reasons: readonly string[] };
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Written as JSON. */
  readonly status: () => unknown;
  /** Redacted already. */
  readonly config: () => unknown;
  readonly purge: (
    purge: Purge,
  ) => Promise<{ readonly ok: true; readonly purged: unknown } | { readonly ok: false; readonly detail: string }>;
  /** Null: there are no files to load, and the path does not exist. */
  readonly reload: (() => Promise<ReloadOutcome>) | null;
  /** The page at `/`, and the events that keep it up to date. */
  readonly page: Page;
  readonly events: { attach(outgoing: HttpBindings['outgoing']): boolean };
  readonly log: Log;
}

/** Limits guesses of the token by address. */
export interface GuessLimit {
  /** 0: not blocked. */
  blockedForMs(address: string): number;
  /** Counts a wrong value of `Authorization`, before the response. */
  guessed(address: string, authorization: string): void;
}

/** A path and a method of the admin port. An endpoint that changes something is a POST. */
interface Endpoint {
  /** `GET` covers HEAD. */
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Needs no token: a kubelet has none, and the response holds nothing secret. */
  readonly open?: boolean;
  readonly respond: (request: Request, node: HttpBindings) => Response | Promise<Response>;
}

function endpointsOf(options: AdminOptions): readonly Endpoint[] {
  const { reload } = options;
  return [
    // Only whether the process serves: a restart would help with nothing else.
    { method: 'GET', path: '/livez', open: true, respond: () => text('ok\n', 'text/plain; charset=utf-8') },
    {
      method: 'GET',
      path: '/readyz',
      open: true,
      respond: () => {
        const { ready, reasons } = options.readiness();
        return json({ ready, reasons }, ready ? 200 : 503);
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      respond: async () => {
        const exposition = await options.metrics();
        return text(exposition.text, exposition.contentType);
      },
    },
    { method: 'GET', path: '/', respond: () => options.page.respond(200) },
    { method: 'GET', path: '/events', respond: (request, { outgoing }) => attachTo(options.events, request, outgoing) },
    { method: 'GET', path: '/status', respond: () => json(options.status()) },
    { method: 'GET', path: '/config', respond: () => json(options.config()) },
    {
      method: 'POST',
      path: '/cache/purge',
      respond: async (request) => {
        const read = await readPurge(request);
        if (!read.ok) return adminProblem(read.code, {}, undefined, read.detail);
        const purged = await options.purge(read.purge);
        return purged.ok ? json(purged.purged) : adminProblem('bad_request', {}, undefined, purged.detail);
      },
    },
    ...(reload === null
      ? []
      : [{ method: 'POST', path: '/reload', respond: async () => reloadResponse(await reload()) } as const]),
  ];
}

/** The application of the admin port: for probes, Prometheus and operators, never for tenants. */
export function createAdminApp(options: AdminOptions): Hono {
  const endpoints = endpointsOf(options);
  const open = new Set(endpoints.filter((endpoint) => endpoint.open).map((endpoint) => endpoint.path));
  const allowed = tokenCheck(options.token);
  const app = new Hono();

  // Before the routes, so that a caller without the token cannot tell an unknown path from a known one.
  app.use(async (c, next) => {
    const authorization = c.req.header('authorization');
    if (open.has(c.req.path)) return next();
    const address = (c.env as HttpBindings).incoming.socket.remoteAddress ?? '';
    const blockedMs = options.token === null ? 0 : options.guessLimit.blockedForMs(address);
    // The right token is rejected too: otherwise a guesser would learn that it is right.
    if (blockedMs > 0 && authorization !== undefined)
      return adminProblem('address_blocked', { 'Retry-After': String(Math.ceil(blockedMs / 1000)) });
    if (allowed(authorization)) return next();
    if (authorization !== undefined) options.guessLimit.guessed(address, authorization);
    const challenge = challengeOf(authorization !== undefined);
    // A browser cannot send a token before a page has asked for it. The page holds no data.
    return isBrowserAtThePage(c) ? options.page.respond(401, challenge) : adminProblem('unauthorized', challenge);
  });
  for (const { method, path, respond } of endpoints) {
    app.on(method, path, (c) => {
      const { raw } = c.req;
      return method === 'POST' && isCrossSite(raw) ? adminProblem('cross_site') : respond(raw, c.env as HttpBindings);
    });
  }
  for (const path of new Set(endpoints.map((endpoint) => endpoint.path))) {
    const methods = endpoints.filter((endpoint) => endpoint.path === path).map((endpoint) => endpoint.method);
    const allow = methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])).join(', ');
    app.all(path, () => adminProblem('method_not_allowed', { Allow: allow }));
  }
  app.notFound(() => adminProblem('not_found'));
  app.onError((error, c) => {
    const requestId = randomUUID();
    options.log.error({ requestId, path: c.req.path, err: error }, 'admin request failed');
    return adminProblem('internal', {}, requestId);
  });
  return app;
}

/**
 * Pages of any site can make a browser send requests, also to a port on loopback that needs no token. The browser names the site.
 */
function isCrossSite({ headers }: Request): boolean {
  const site = headers.get('sec-fetch-site');
  if (site !== null) return site !== 'same-origin' && site !== 'none';
  const origin = headers.get('origin');
  return origin !== null && (!URL.canParse(origin) || new URL(origin).host !== headers.get('host'));
}

/** Time for a whole request to arrive: the largest is the body of a purge. */
const WHOLE_REQUEST_MS = 30_000;

/** The server of the admin port, not listening yet. */
export function createAdminListener(app: Pick<Hono, 'fetch'>, tls: ListenerTls): Listener {
  const listener = getRequestListener((request, env) => app.fetch(request, env), {
    overrideGlobalObjects: false,
    hostname: 'localhost',
    // A Host or target of which the adapter makes no `Request`.
    errorHandler: (error) => adminProblem(error instanceof RequestError ? 'bad_request' : 'internal'),
  });
  const port = createListener(
    {
      headersTimeout: tls.handshakeTimeoutMs,
      requestTimeout: Math.max(WHOLE_REQUEST_MS, tls.handshakeTimeoutMs),
      connectionsCheckingInterval: 1_000,
    },
    tls,
  );
  port.server.on('request', (incoming, outgoing) => void listener(incoming, outgoing));
  return port;
}

/** Compares digests, so that the duration depends on neither length nor content of the token. */
function tokenCheck(token: Secret | null): (authorization: string | undefined) => boolean {
  if (token === null) return () => true;
  if (token.reveal() === '') throw new Error('the admin token is empty');
  const digest = (value: string) => createHash('sha256').update(value).digest();
  const expected = digest(token.reveal());
  return (authorization) => {
    const given = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    return given !== undefined && timingSafeEqual(digest(given), expected);
  };
}

/** RFC 6750 section 3: no error code where no token was given. */
function challengeOf(given: boolean): Record<string, string> {
  const challenge = 'Bearer realm="patchgate"';
  return { 'WWW-Authenticate': given ? `${challenge}, error="invalid_token"` : challenge };
}

function isBrowserAtThePage({ req }: Context): boolean {
  const reads = req.method === 'GET' || req.method === 'HEAD';
  return reads && req.path === '/' && req.header('accept')?.includes('text/html') === true;
}

function attachTo(events: AdminOptions['events'], request: Request, outgoing: HttpBindings['outgoing']): Response {
  // The browser keeps other sites from reading the events, but not from taking all connections.
  if (isCrossSite(request)) return adminProblem('cross_site');
  if (request.method === 'HEAD') return text('', 'text/event-stream');
  return events.attach(outgoing) ? RESPONSE_ALREADY_SENT : adminProblem('too_many_listeners', { 'Retry-After': '10' });
}

function json(body: unknown, status = 200): Response {
  return text(`${JSON.stringify(body)}\n`, 'application/json', status);
}

function text(body: string, contentType: string, status = 200): Response {
  return new Response(body, { status, headers: { ...ADMIN_HEADERS, 'Content-Type': contentType } });
}
