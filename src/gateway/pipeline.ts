import { floodProtection } from '../auth/abuse-limits.ts';
import { type Authenticated, authenticate } from '../auth/authenticate.ts';
import { type Authorised, authorise } from '../auth/authorise.ts';
import { cacheFill } from '../cache/fill.ts';
import { cacheLookup } from '../cache/lookup.ts';
import type { CacheOptions, WithFetchPlan } from '../cache/options.ts';
import type { Settings } from '../config/model.ts';
import { type Handler, type RequestContext, reject, type WithWaitTerms } from '../context.ts';
import { idempotency } from '../idempotency/idempotency.ts';
import { announceQuota } from '../quota/fields.ts';
import { type Admitted, limitByQuota, refuseQuota, retryAfterSeconds } from '../quota/quota.ts';
import { readUpstreamLimit } from '../quota/upstream-limit.ts';
import { matchRoute, type Route, type Routed } from '../routing/match-route.ts';
import { circuitBreaker } from '../upstream/avoid-broken.ts';
import { concurrencyLimit, type WithPermit } from '../upstream/concurrency-limit.ts';
import { proxy } from '../upstream/proxy.ts';
import { bufferBody, type WithPayload } from '../upstream/request-body.ts';
import { rewriteLinks } from '../upstream/rewrite-links.ts';
import { cacheNamespace } from './cache-backend.ts';
import { LATE_ARRIVAL_MS } from './constants.ts';
import type { Dependencies } from './dependencies.ts';

/** The rules of a cache without room: nothing is stored, and Cache-Status says so. */
const NEVER_STORE: Settings['cache']['rules'] = [
  { match: { text: '* /**', method: null, segments: ['**'] }, store: false },
];

/**
 * The way of a request, from the outside in. The order is the design:
 *
 *     findRoute         one reading of the path, or 400: everything below decides by it
 *     authenticate      whose key
 *     announceQuota     the tenant's limit fields, on whatever comes from further in
 *     holdBackFloods    before anything that costs more than knowing the key
 *     authorise         may this tenant call this; before the cache, or a withdrawn permission would still read
 *     leadLinksBack     above the cache, so that what is stored is the upstream's and no caller's Host gets into it
 *     replayWrites      a write with an Idempotency-Key is sent once; below the links, for the same reason
 *     cacheAnswers      before the quota: what is in memory costs nothing
 *     avoidBroken       below the cache, which may have something stale; above all that waits, uploads or spends
 *     readSmallBodies   before the quota: a slow upload holds no slot
 *     limitByQuota      at the moment of sending, after a wait in order if there is no slot
 *     takeTurns         below the quota, so that no place is held by who waits for a slot; who waits here has no slot
 *     fetchAnswers      one request for all who ask the same; stores the answer on its way up
 *     forward           credential in, send, send again what is safe, learn from the answer; asks the breaker once more
 */
export function createPipeline(parts: Dependencies, background: CacheOptions['background']): Handler<RequestContext> {
  const { settings, clock, random, metrics, log, ledger } = parts;
  type Known = Routed & Authenticated;
  type Allowed = Known & Authorised;

  const send = proxy({
    sender: parts.sender,
    upstreams: parts.upstreams,
    credentials: parts.credentials,
    limitOf: (account, status, headers) =>
      readUpstreamLimit({
        status,
        headers,
        now: clock.now(),
        malformed: (field) => metrics.invalidUpstreamHeader(account, field),
      }),
    refuseQuota: (decision) => refuseQuota(decision, random),
    refuseHeld: (account) =>
      reject('upstream_cooldown', {
        retryAfterSeconds: retryAfterSeconds(ledger.view(account).heldForMs, random),
        internal: 'upstream answered 429',
      }),
    lateArrivalMs: LATE_ARRIVAL_MS,
    propagate: settings.tracing.propagate,
    clock,
    random,
    meter: metrics,
    log,
  });
  type Fetched = Allowed & WithFetchPlan & WithWaitTerms & WithPayload;
  const caching: CacheOptions = {
    ...settings.cache,
    ...parts.cache,
    rules: settings.cache.memoryBytes > 0 ? settings.cache.rules : NEVER_STORE,
    namespace: cacheNamespace(settings),
    lateArrivalMs: LATE_ARRIVAL_MS,
    clock,
    meter: metrics,
    background,
  };
  const fetching = cacheFill<Fetched & Admitted & WithPermit>(caching)(send);
  const turns = concurrencyLimit<Fetched & Admitted>(parts)(fetching);
  const quota = limitByQuota<Fetched>({
    ledger,
    room: parts.room,
    maxWaitMs: (tenant) => settings.tenants.get(tenant)?.quota.maxWaitMs ?? 0,
    meter: metrics,
    clock,
    random,
    lateArrivalMs: LATE_ARRIVAL_MS,
  })(turns);
  const upload = bufferBody<Allowed & WithFetchPlan & WithWaitTerms>(settings.limits)(quota);
  const unbroken = circuitBreaker<Allowed & WithFetchPlan & WithWaitTerms>(parts)(upload);
  const cache = cacheLookup<Allowed>(caching)(unbroken);
  const replay = idempotency<Allowed>({
    store: parts.replays,
    maxAnswerBytes: settings.idempotency.maxResponseBytes,
    clock,
    meter: metrics,
    log,
  })(cache);
  const links = rewriteLinks<Allowed>({ origins: originsOf(settings) })(replay);
  const permission = authorise<Known>()(links);
  const floods = floodProtection<Known>(parts)(permission);
  const fields = announceQuota<Known>(parts)(floods);
  const key = authenticate<Routed>(parts)(fields);
  return matchRoute(routesOf(settings))(key);
}

function routesOf(settings: Settings): Route[] {
  return settings.routes.map(({ match, upstream: id, rewriteLinks }) => {
    const upstream = settings.upstreams.get(id);
    if (upstream === undefined) throw new Error(`no upstream ${id}`);
    return { match, template: match.text.slice(match.text.indexOf(' ') + 1), upstream, rewriteLinks };
  });
}

function originsOf(settings: Settings): string[] {
  return [...new Set([...settings.upstreams.values()].map((upstream) => upstream.origin))];
}
