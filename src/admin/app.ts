import { randomUUID } from 'node:crypto';
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import type { Log } from '../ports.ts';
import { createListener, type Listener, type ListenerTls } from '../server/listener.ts';
import { type AdminToken, createAccess, mayDo } from './access.ts';
import type { Actor, Audit } from './audit.ts';
import { type AdminProblemOptions, adminProblem, respondJson, respondText } from './problem-response.ts';
import { type Purge, type Purged, purgeTarget, readPurge } from './purge.ts';
import type { Holder, Role } from './status/document.ts';
import type { Page } from './ui/page.ts';

export interface AdminOptions {
  /** Empty: no token is needed; the port listens on loopback by default. */
  readonly tokens: readonly AdminToken[];
  readonly guessLimit: GuessLimit;
  readonly isTrustedProxy: (address: string) => boolean;
  readonly readiness: () => { readonly ready: boolean; readonly reasons: readonly string[] };
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Written as JSON. */
  readonly status: () => unknown;
  /** Redacted already. */
  readonly config: () => unknown;
  readonly purge: (purge: Purge) => Promise<Purged>;
  /** Null: there are no files to load, and the path does not exist. */
  readonly reload: ((by: Actor) => Promise<ReloadOutcome>) | null;
  /** The page at `/`, and the events that keep it up to date. */
  readonly page: Page;
  readonly events: { attach(outgoing: HttpBindings['outgoing'], holder: Holder): boolean };
  readonly audit: Audit;
  readonly log: Log;
}

/** Limits guesses of the token by address. */
interface GuessLimit {
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
  /** Null needs no token: a kubelet has none, and the response holds nothing secret. */
  readonly role: Role | null;
  readonly respond: (request: Request, node: HttpBindings, holder: Holder) => Response | Promise<Response>;
}

function endpointsOf(options: AdminOptions): readonly Endpoint[] {
  const { reload } = options;
  return [
    // Only whether the process serves: a restart would help with nothing else.
    {
      ...{ method: 'GET', path: '/livez', role: null },
      respond: () => respondText('ok\n', { 'Content-Type': 'text/plain; charset=utf-8' }),
    },
    {
      ...{ method: 'GET', path: '/readyz', role: null },
      respond: () => {
        const { ready, reasons } = options.readiness();
        return respondJson({ ready, reasons }, ready ? 200 : 503);
      },
    },
    {
      ...{ method: 'GET', path: '/metrics', role: 'metrics' },
      respond: async () => {
        const { text, contentType } = await options.metrics();
        return respondText(text, { 'Content-Type': contentType });
      },
    },
    { method: 'GET', path: '/', role: 'read', respond: () => options.page.respond(200) },
    {
      ...{ method: 'GET', path: '/events', role: 'read' },
      respond: (request, { outgoing }, holder) => attachTo(options.events, request, outgoing, holder),
    },
    { method: 'GET', path: '/status', role: 'read', respond: () => respondJson(options.status()) },
    { method: 'GET', path: '/config', role: 'read', respond: () => respondJson(options.config()) },
    {
      ...{ method: 'POST', path: '/cache/purge', role: 'operate' },
      respond: (request, node, holder) => purge(options, request, { actor: holder.id, address: addressOf(node) }),
    },
    ...(reload === null
      ? []
      : [
          {
            ...({ method: 'POST', path: '/reload', role: 'operate' } as const),
            respond: async (_: Request, node: HttpBindings, holder: Holder) =>
              reloaded(await reload({ actor: holder.id, address: addressOf(node) })),
          },
        ]),
  ];
}

interface AdminEnv {
  readonly Bindings: HttpBindings;
  readonly Variables: { readonly holder: Holder };
}

/** The application of the admin port: for probes, Prometheus and operators, never for tenants. */
export function createAdminApp(options: AdminOptions): Hono<AdminEnv> {
  const endpoints = endpointsOf(options);
  const roles = new Map(endpoints.map(({ path, role }) => [path, role]));
  const holderOf = createAccess(options.tokens);
  const app = new Hono<AdminEnv>();

  const refuse = (c: Context<AdminEnv>, actor: string, code: Refusal, headers: AdminProblemOptions['headers'] = {}) => {
    options.audit.refused({ actor, address: addressOf(c.env) }, c.req, code);
    return adminProblem(code, { headers });
  };
  // Before the routes, so that a caller without a token cannot tell an unknown path from a known one.
  app.use(async (c, next) => {
    const role = roles.get(c.req.path);
    if (role === null) return next();
    const authorization = c.req.header('authorization');
    const address = addressOf(c.env);
    const holder = holderOf(authorization);
    const blockedMs = options.tokens.length === 0 ? 0 : options.guessLimit.blockedForMs(address);
    // The right token is rejected too: otherwise a guesser would learn that it is right. Not so at the address of a trusted proxy:
    // one guesser behind it would lock out everybody.
    const isBlocked = blockedMs > 0 && (holder === null || !options.isTrustedProxy(address));
    if (isBlocked && authorization !== undefined)
      return refuse(c, 'unknown', 'address_blocked', { 'Retry-After': String(Math.ceil(blockedMs / 1000)) });
    if (holder === null) {
      if (authorization !== undefined) options.guessLimit.guessed(address, authorization);
      const challenge = challengeOf(authorization !== undefined);
      const rejection = refuse(c, authorization === undefined ? 'anonymous' : 'unknown', 'unauthorized', challenge);
      // A browser cannot send a token before a page has asked for it. The page holds no data.
      return isBrowserAtThePage(c) ? options.page.respond(401, challenge) : rejection;
    }
    if (role !== undefined && !mayDo(holder, role)) return refuse(c, holder.id, 'forbidden');
    c.set('holder', holder);
    return next();
  });
  for (const { method, path, respond } of endpoints) {
    app.on(method, path, (c) => {
      const { raw } = c.req;
      const isForeign = method === 'POST' && isCrossSite(raw);
      // An endpoint that needs no token has no holder, and asks for none.
      const holder = c.get('holder');
      return isForeign ? refuse(c, holder.id, 'cross_site') : respond(raw, c.env, holder);
    });
  }
  for (const path of new Set(endpoints.map((endpoint) => endpoint.path))) {
    const methods = endpoints.filter((endpoint) => endpoint.path === path).map((endpoint) => endpoint.method);
    const allow = methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])).join(', ');
    app.all(path, () => adminProblem('method_not_allowed', { headers: { Allow: allow } }));
  }
  app.notFound(() => adminProblem('not_found'));
  app.onError((error, c) => {
    const requestId = randomUUID();
    options.log.error({ requestId, path: c.req.path, err: error }, 'admin request failed');
    return adminProblem('internal', { requestId });
  });
  return app;
}

type Refusal = 'unauthorized' | 'forbidden' | 'address_blocked' | 'cross_site';

function addressOf({ incoming }: HttpBindings): string {
  return incoming.socket.remoteAddress ?? '';
}

async function purge(options: AdminOptions, request: Request, by: Actor): Promise<Response> {
  const read = await readPurge(request);
  if (!read.ok) {
    options.audit.refused(by, { method: 'POST', path: '/cache/purge' }, read.code);
    return adminProblem(read.code, read);
  }
  const note = (outcome: 'ok' | 'refused' | 'failed', more: Record<string, unknown> = {}) =>
    options.audit.purged({ ...by, action: 'purge', target: purgeTarget(read.purge), outcome }, more);
  try {
    const purged = await options.purge(read.purge);
    note(purged.ok ? 'ok' : 'refused', purged.ok ? { entries: purged.purged.entries } : { code: 'bad_request' });
    return purged.ok ? respondJson(purged.purged) : adminProblem('bad_request', purged);
  } catch (error) {
    note('failed');
    throw error;
  }
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
export function createAdminListener(app: Pick<Hono<AdminEnv>, 'fetch'>, tls: ListenerTls): Listener {
  const listener = getRequestListener((request, env) => app.fetch(request, env as HttpBindings), {
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

/** RFC 6750 section 3: no error code where no token was given. */
function challengeOf(given: boolean): Record<string, string> {
  const challenge = 'Bearer realm="patchgate"';
  return { 'WWW-Authenticate': given ? `${challenge}, error="invalid_token"` : challenge };
}

function isBrowserAtThePage({ req }: Context<AdminEnv>): boolean {
  const reads = req.method === 'GET' || req.method === 'HEAD';
  return reads && req.path === '/' && req.header('accept')?.includes('text/html') === true;
}

function attachTo(
  events: AdminOptions['events'],
  request: Request,
  outgoing: HttpBindings['outgoing'],
  holder: Holder,
): Response {
  // The browser keeps other sites from reading the events, but not from taking all connections.
  if (isCrossSite(request)) return adminProblem('cross_site');
  if (request.method === 'HEAD') return respondText('', { 'Content-Type': 'text/event-stream' });
  if (events.attach(outgoing, holder)) return RESPONSE_ALREADY_SENT;
  return adminProblem('too_many_listeners', { headers: { 'Retry-After': '10' } });
}

/** How a reload of the configuration ended. */
export type ReloadOutcome =
  | {
      readonly ok: true;
      readonly revision: string;
      /** Settings that changed, in words without secrets. */
      readonly changed: readonly string[];
      /** Changed options that keep their old value until a restart. */
      readonly needsRestart: readonly string[];
    }
  | {
      readonly ok: false;
      /** With file and line, without values; the first ones only. */
      readonly problems: readonly string[];
    };

function reloaded(outcome: ReloadOutcome): Response {
  if (!outcome.ok) return adminProblem('config_refused', { more: { problems: outcome.problems } });
  const { revision, changed, needsRestart } = outcome;
  return respondJson({ revision, changed, needsRestart });
}
