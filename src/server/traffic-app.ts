import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import { type Handler, type RequestContext, reject } from '../context.ts';
import type { ActiveRequest } from './active-requests.ts';

export interface TrafficRoutes {
  /** Read anew for each request, so that a reload can replace it. */
  readonly pipeline: () => Handler<RequestContext>;
  /** `GET /_gateway/whoami`. */
  readonly whoami: () => Handler<RequestContext>;
}

interface TrafficEnv {
  readonly Bindings: HttpBindings & { readonly active: ActiveRequest };
}

/**
 * The application of the traffic port: the gateway's own endpoints are routes, the pipeline is the catch-all. Responses are written
 * to Node's response directly, because a web `Response` would be converted twice (docs/decisions/0001).
 */
export function createTrafficApp({ pipeline, whoami }: TrafficRoutes): Hono<TrafficEnv> {
  // Routes match the raw path. Hono's own reading resolves `..` and decodes escapes, which the pipeline must see.
  const app = new Hono<TrafficEnv>({ getPath: (_, options) => rawPathOf(options?.env?.active.context.target ?? '') });
  const handledBy =
    (handler: () => Handler<RequestContext>) =>
    async ({ env: { active } }: Context<TrafficEnv>): Promise<Response> => {
      active.respond(active.rejection ?? (await handler()(active.context)));
      return RESPONSE_ALREADY_SENT;
    };

  app.get('/_gateway/whoami', handledBy(whoami));
  app.all('*', handledBy(pipeline));
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

/** Passes a request to the application, which responds to it. */
export type Dispatch = (active: ActiveRequest) => void;

/** Each request has a listener of its own, because the adapter calls an error handler without naming the request. */
export function dispatchTo(app: Hono<TrafficEnv>): Dispatch {
  return (active) => {
    const listener = getRequestListener((request, env) => app.fetch(request, { ...(env as HttpBindings), active }), {
      overrideGlobalObjects: false,
      autoCleanupIncoming: false,
      // HTTP/1.0 has no Host.
      hostname: 'localhost',
      errorHandler: (error) => {
        if (error instanceof RequestError) active.respond(active.rejection ?? notRepresentable(error));
        else active.fail(error);
      },
    });
    void listener(active.incoming, active.outgoing);
  };
}

/**
 * The adapter makes no `Request` of some targets. Those that are no path, or come with a malformed Host, are rejected on reception
 * already, so that only paths with a backslash are left.
 */
function notRepresentable(error: RequestError): ReturnType<typeof reject> {
  return reject('path_not_canonical', { internal: error.message });
}

function rawPathOf(target: string): string {
  const query = target.indexOf('?');
  return query === -1 ? target : target.slice(0, query);
}
