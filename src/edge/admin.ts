import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { refuse } from '../exchange.ts';
import type { Log } from '../observe.ts';
import type { ProblemCode } from '../problem.ts';
import type { Secret } from '../secret.ts';
import { renderProblem } from './problem-json.ts';

export interface AdminOptions {
  /** Null: whoever reaches the port may read; it listens on loopback by default. */
  readonly token: Secret | null;
  readonly readiness: () => { readonly ready: boolean; readonly reasons: readonly string[] };
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly status: () => unknown;
  /** Redacted already. */
  readonly config: () => unknown;
  readonly log: Log;
}

/** Nothing here is a page, and nothing here may be kept. */
const COMMON = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
};

/** The admin port: for probes, Prometheus and people; never for tenants. */
export function createAdminApp(options: AdminOptions): Hono {
  const app = new Hono();
  const allowed = tokenCheck(options.token);
  const open = new Set(['/livez', '/readyz']);

  app.use(async (c, next) => {
    if (!open.has(c.req.path) && !allowed(c.req.header('authorization'))) {
      return problem('key_missing', 'Send the admin token as `Authorization: Bearer <token>`.');
    }
    return next();
  });
  const pages: Record<string, (c: Context) => Response | Promise<Response>> = {
    '/livez': (c) => c.text('ok\n', 200, COMMON),
    '/readyz': (c) => {
      const { ready, reasons } = options.readiness();
      return c.json({ ready, reasons }, ready ? 200 : 503, COMMON);
    },
    '/metrics': async (c) => {
      const { contentType, text } = await options.metrics();
      return c.body(text, 200, { ...COMMON, 'Content-Type': contentType });
    },
    '/status': (c) => c.json(options.status() as object, 200, COMMON),
    '/config': (c) => c.json(options.config() as object, 200, COMMON),
  };
  for (const [path, page] of Object.entries(pages)) {
    app.get(path, page);
    app.all(path, () => methodNotAllowed());
  }
  app.notFound((c) =>
    problem('route_unknown', `The admin port has no ${c.req.path}. Known: ${Object.keys(pages).join(' ')}`),
  );
  app.onError((error) => {
    options.log.error({ err: error }, 'admin request failed');
    return problem('internal');
  });
  return app;
}

/** Compares digests, so that neither length nor content of the token shows in the time it takes. */
function tokenCheck(token: Secret | null): (header: string | undefined) => boolean {
  if (token === null) return () => true;
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(token.reveal());
  return (header) => {
    const given = /^bearer\s+(.+)$/i.exec(header ?? '')?.[1]?.trim() ?? '';
    return timingSafeEqual(digest(given), expected);
  };
}

function problem(code: ProblemCode, detail?: string): Response {
  const { status, headers, body } = renderProblem(refuse(code, detail === undefined ? {} : { detail }), '');
  return new Response(body as Buffer<ArrayBuffer>, { status, headers: { ...COMMON, ...pairs(headers) } });
}

function methodNotAllowed(): Response {
  return new Response(null, { status: 405, headers: { ...COMMON, Allow: 'GET, HEAD' } });
}

function pairs(list: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < list.length; i += 2) record[list[i] as string] = list[i + 1] as string;
  return record;
}

/** A server for the admin app, not listening yet. */
export function createAdminServer(app: Hono): Server {
  const listener = getRequestListener(app.fetch as (request: Request, env: unknown) => Response | Promise<Response>, {
    overrideGlobalObjects: false,
    hostname: 'localhost',
  });
  return createServer((incoming, outgoing) => void listener(incoming, outgoing));
}
