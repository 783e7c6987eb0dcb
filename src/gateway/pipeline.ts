import { authenticate, floodProtection } from '../auth/authenticate.ts';
import { authorise } from '../auth/authorise.ts';
import { cacheFill } from '../cache/fill.ts';
import { cacheLookup } from '../cache/lookup.ts';
import type { CacheOptions } from '../cache/options.ts';
import type { CredentialSettings, FixedCredentialSettings, RouteSettings, Settings } from '../config/settings.ts';
import { isFixed } from '../config/settings.ts';
import type { Handler, Middleware, RequestContext } from '../context.ts';
import { idempotency } from '../idempotency/idempotency.ts';
import { rateLimitHeaders } from '../quota/headers.ts';
import { rateLimit } from '../quota/rate-limit.ts';
import { bufferBody } from '../read-body.ts';
import { matchRoute, type Route } from '../routing/match-route.ts';
import { parameterName, SIGNATURE_PARAMETER } from '../routing/query.ts';
import { rewriteOf } from '../routing/rewrite.ts';
import { circuitBreaker } from '../upstream/circuit-breaker.ts';
import { concurrencyLimit } from '../upstream/concurrency-limit.ts';
import { headerName } from '../upstream/headers.ts';
import { proxy } from '../upstream/proxy.ts';
import { rewriteLinks } from '../upstream/rewrite-links.ts';
import { cacheNamespace } from './cache-backend.ts';
import type { Dependencies } from './dependencies.ts';

/**
 * The middleware of every request, outermost first. Each comment states the reason for the position. A middleware names the context
 * that it needs in its type, so a list in which it comes before the middleware that provides that context does not compile.
 */
export function createPipeline(
  dependencies: Dependencies,
  background: CacheOptions['background'],
): Handler<RequestContext> {
  const { settings, metrics: meter } = dependencies;
  const sending = { ...dependencies, meter };
  const cache = cacheOptions(dependencies, background);
  const origins = [...new Set([...settings.upstreams.values()].map(({ origin }) => origin))];
  return (
    new Pipeline<RequestContext, RequestContext>((handler) => handler)
      // Every later decision uses the canonical path, so an ambiguous path is rejected first.
      .use(matchRoute(routesOf(settings)))
      // Before everything that belongs to a tenant.
      .use(authenticate(dependencies))
      // Every response and rejection to a tenant carries its limits.
      .use(rateLimitHeaders(dependencies))
      // Before anything that costs more than finding the key.
      .use(floodProtection(dependencies))
      // Before the cache, or a tenant could read cached responses after its permission was withdrawn.
      .use(authorise({ meter }))
      // Before the cache, so that stored responses contain the upstream's links, and no caller's Host header.
      .use(rewriteLinks({ ...dependencies, origins }))
      // Inside rewriteLinks, for the same reason: it stores responses too.
      .use(idempotency({ ...dependencies, ...settings.idempotency, meter, store: dependencies.cache.idempotencyStore }))
      // Before the quota: a cached response costs no slot.
      .use(cacheLookup(cache))
      // Inside the cache, which may have a stale response; before everything that waits, uploads or takes a slot.
      .use(circuitBreaker(dependencies))
      // Before the quota, so that a slow upload holds no slot.
      .use(bufferBody({ ...dependencies, ...settings.limits }))
      // At the moment of sending: a slot is held from here until its request has left the account's window.
      .use(rateLimit(sending))
      // After the quota, so that a request that waits for a slot holds no permit.
      .use(concurrencyLimit(dependencies))
      // After both waits: callers who wait for the same response share the first request that may be sent.
      .use(cacheFill(cache))
      .handle(proxy({ ...sending, propagate: settings.tracing.propagate }))
  );
}

/** Collects middleware from the outside in. `Context` is what a request has after the middleware collected so far. */
class Pipeline<In, Context extends In> {
  readonly #wrap: (innermost: Handler<Context>) => Handler<In>;

  constructor(wrap: (innermost: Handler<Context>) => Handler<In>) {
    this.#wrap = wrap;
  }

  use<Out extends Context>(middleware: Middleware<Context, Out>): Pipeline<In, Out> {
    return new Pipeline((next) => this.#wrap(middleware(next)));
  }

  handle(innermost: Handler<Context>): Handler<In> {
    return this.#wrap(innermost);
  }
}

function cacheOptions(dependencies: Dependencies, background: CacheOptions['background']): CacheOptions {
  const { settings, bodyMemory, clock, metrics } = dependencies;
  return {
    ...settings.cache,
    ...dependencies.cache,
    rules: settings.cache.memoryBytes > 0 ? settings.cache.rules : NEVER_STORE,
    namespace: cacheNamespace(settings),
    bodyMemory,
    clock,
    meter: metrics,
    background,
  };
}

/** The rules of a cache without memory: nothing is stored, and Cache-Status says so. */
const NEVER_STORE: Settings['cache']['rules'] = [
  { match: { text: '* /**', method: null, segments: ['**'] }, store: false },
];

/** The routes with all that follows from their upstreams and credentials. */
function routesOf(settings: Settings): Route[] {
  return settings.routes.map((route) => {
    const { match, rewriteLinks, rewrite, credential } = route;
    const upstream = settings.upstreams.get(route.upstream);
    if (upstream === undefined) throw new Error(`no upstream ${route.upstream}`);
    const secrets = credentialsOf(settings, upstream.account, route).filter(isFixed);
    const namesIn = (carrier: FixedCredentialSettings['kind']) =>
      secrets.filter(({ kind }) => kind === carrier).map(({ name }) => name);
    return {
      ...{ match, upstream, rewriteLinks, credential },
      template: match.text.slice(match.text.indexOf(' ') + 1),
      rewrite: rewrite === null ? null : rewriteOf(match, rewrite),
      secretHeaders: new Set(namesIn('header').map(headerName)),
      secretParameters: namesIn('query').map(parameterName),
      // A signature is the credential of webhooks and callbacks, and of nothing else.
      starts: secrets.some(({ name }) => parameterName(name) === SIGNATURE_PARAMETER),
    };
  });
}

/** The credentials that requests of a route may use. */
function credentialsOf(
  { accounts }: Settings,
  account: string,
  { credential }: RouteSettings,
): readonly CredentialSettings[] {
  const all = accounts.get(account)?.credentials ?? [];
  return credential === null ? all : all.filter(({ id }) => id === credential);
}
