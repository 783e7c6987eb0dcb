import {
  DEFAULT_WAIT_TERMS,
  extend,
  type Handler,
  headerOf,
  type Middleware,
  type ProxyResponse,
  type Result,
  reject,
  traced,
  type WithWaitTerms,
} from '../context.ts';
import { literally, matches, parsePathPattern, splitPath } from '../routing/pattern.ts';
import { originalPath, rewriteTarget } from '../routing/rewrite.ts';
import { isSentAsRead } from '../upstream/headers.ts';
import {
  acceptsStale,
  bypassesCache,
  type CachedResponses,
  createCachedResponses,
  evaluate,
  type ForwardReason,
  isRangeRequest,
  type RequestDirectives,
  readRequestDirectives,
  withCacheStatus,
} from './cached-response.ts';
import { writtenCollection } from './invalidation-log.ts';
import { ageOf, findStored, primaryKey } from './key.ts';
import { MissHandler } from './miss-handler.ts';
import {
  type CacheableContext,
  type CacheOptions,
  type CacheRule,
  NOT_FETCHED,
  type WithFetchPlan,
} from './options.ts';
import { createRuleFinder } from './rules.ts';

type Fetchable<E> = E & WithFetchPlan & WithWaitTerms;

/**
 * Serves GET and HEAD from stored responses, and invalidates them after writes.
 *
 *     GET, HEAD   fresh → serve; stale and allowed → serve and refresh; else fetch, coalesced with other requests
 *     OPTIONS     pass on
 *     others      pass on; if they were carried out, or may have been, invalidate before the response goes out
 *
 * Its lower half is `cacheFill`, below the quota: a response served here uses no slot, a response stored there used one.
 */
export function cacheLookup<E extends CacheableContext>(options: CacheOptions): Middleware<E, Fetchable<E>> {
  if (!(options.maxEntryBytes >= 0)) throw new RangeError('maxEntryBytes must not be negative');
  const responses = createCachedResponses(options);
  const ruleOf = createRuleFinder(options.rules);

  return (next) => {
    const misses = new MissHandler<E>(options, responses, next);
    const forward: Handler<E> = async (context) => {
      const fetch = { storeAs: null, shared: false, existing: null, ...NOT_FETCHED };
      return next(extend(context, { fetch, waitTerms: DEFAULT_WAIT_TERMS }));
    };
    const forwardMarked = async (context: E, reason: ForwardReason, detail = ''): Promise<Result> => {
      const result = await forward(context);
      if (result.kind === 'response') result.headers.push('Cache-Status', `patchgate; fwd=${reason}${detail}`);
      return result;
    };
    const write = invalidateAfterWrite<E>(options, forward);

    const bypass = async (context: E, directives: RequestDirectives, detail?: string): Promise<Result> => {
      context.record.cache = 'bypass';
      return directives.onlyIfCached ? reject('only_if_cached') : forwardMarked(context, 'bypass', detail);
    };

    const lookup = { options, responses, misses, bypass };

    // Not async: a hit is the hot path, and every branch returns a promise.
    return (context) => {
      const { method, headers, segments, canonicalQuery, route } = context;
      if (method === 'OPTIONS') return forwardMarked(context, 'method');
      if (method !== 'GET' && method !== 'HEAD') return write(context);
      const directives = readRequestDirectives(headers);
      // Each request starts a run: a caller that is given the response to another one's has started none.
      if (route.starts === true) return bypass(context, directives);
      const rule = ruleOf(segments, canonicalQuery);
      context.record.bypassedByRequest = rule === 'unless' || rule?.store !== false;
      if (rule === 'unless') return bypass(context, directives, '; detail=unless');
      if (rule?.store === false || bypassesCache(context)) return bypass(context, directives);
      if (!isSentAsRead(context, route.secretHeaders)) return bypass(context, directives);
      return serveOrFetch(lookup, context, rule, directives);
    };
  };
}

interface Lookup<E extends CacheableContext> {
  readonly options: CacheOptions;
  readonly responses: CachedResponses;
  readonly misses: MissHandler<E>;
  readonly bypass: (context: E, directives: RequestDirectives) => Promise<Result>;
}

async function serveOrFetch<E extends CacheableContext>(
  { options, responses, misses, bypass }: Lookup<E>,
  context: E,
  rule: Exclude<CacheRule, { store: false }> | null,
  directives: RequestDirectives,
): Promise<Result> {
  const primary = primaryKey(context, options.namespace, rule?.vary);
  const { key, entry } = await findStored(options, context, primary);
  const ageMs = entry === null ? 0 : ageOf(entry, options.clock.monotonic());
  const usability = entry === null ? 'miss' : evaluate(ageMs, entry.freshForMs, directives);
  if (usability === 'fresh' && entry !== null) return responses.hit(context, entry);
  if (isRangeRequest(context.headers)) return bypass(context, directives);
  const reason: ForwardReason = usability === 'fresh' ? 'miss' : usability;
  const miss = { primaryKey: primary, fetchKey: key, rule, reason, directives, existing: entry };
  if (reason === 'stale' && entry !== null && acceptsStale(directives)) {
    const staleMs = ageMs - entry.freshForMs;
    if (staleMs < entry.stale.staleWhileRevalidateMs) {
      misses.refreshInBackground(context, miss);
      return responses.stale(context, entry, 'stale-while-revalidate');
    }
    if (staleMs < entry.stale.staleIfErrorMs && options.failing.has(key)) {
      misses.refreshInBackground(context, miss);
      return responses.stale(context, entry, 'stale-if-error');
    }
  }
  context.record.cache = reason === 'request' || directives.noStore ? 'bypass' : 'miss';
  return directives.onlyIfCached ? reject('only_if_cached') : misses.fetch(context, miss);
}

/**
 * Passes a write on. Before its response goes out, invalidates the collection that it wrote to (RFC 9111 section 4.4 requires
 * only its path), the resources in Location and Content-Location, and the paths that the rules name. A write that may have been
 * carried out counts as carried out. If it may still be carried out later, the same paths are invalidated again by then.
 */
export function invalidateAfterWrite<E extends CacheableContext>(options: CacheOptions, next: Handler<E>): Handler<E> {
  const rules = (options.invalidate ?? []).map(({ after, drop }) => ({ after, drop: drop.map(segmentsOf) }));

  const invalidate = (context: E, response: ProxyResponse | null): void | Promise<void> => {
    const { method, segments, route, target } = context;
    const matching = rules.filter((rule) => matches(rule.after, method, segments));
    const patterns = [writtenCollection(segments), ...matching.flatMap((rule) => rule.drop)];
    if (response !== null) patterns.push(...linkedPaths(route, target, response));
    return options.invalidations.invalidate(route.upstream.account, { patterns });
  };

  return async (context) => {
    let result: Result;
    try {
      result = await next(context);
    } catch (error) {
      // A fault of the gateway: the write may have been sent.
      await invalidate(context, null);
      throw error;
    }
    const response = result.kind === 'response' ? result : null;
    if (mayHaveChanged(result)) {
      if (response === null) options.clock.after(options.lateArrivalMs, () => void invalidate(context, null));
      await traced(context.trace, 'invalidate', invalidate(context, response));
    }
    return response === null ? result : withCacheStatus(response, 'method', false);
  };
}

/**
 * False for what the upstream refused (4xx) and for what provably did not reach it. RFC 9111 asks for 2xx and 3xx only, but a 5xx,
 * a missing response and a client disconnect do not show whether the write was carried out.
 */
function mayHaveChanged(result: Result): boolean {
  if (result.kind === 'response') return result.status < 400 || result.status >= 500;
  switch (result.code) {
    case 'upstream_timeout':
    case 'upstream_protocol':
    case 'client_closed':
      return true;
    default:
      return false;
  }
}

/** Location and Content-Location on the same upstream: these resources have changed too (section 4.4). */
function linkedPaths(
  { upstream: { origin }, rewrite = null }: CacheableContext['route'],
  target: string,
  { headers }: ProxyResponse,
): (readonly string[])[] {
  const base = `${origin}${rewrite === null ? target : rewriteTarget(rewrite, target)}`;
  return ['location', 'content-location'].flatMap((name) => {
    const value = headerOf(headers, name);
    if (value === undefined || !URL.canParse(value, base)) return [];
    const url = new URL(value, base);
    if (url.origin !== new URL(origin).origin) return [];
    try {
      const path = rewrite === null ? url.pathname : originalPath(rewrite, url.pathname);
      return [literally(splitPath(path).map(decodeURIComponent))];
    } catch {
      return [];
    }
  });
}

function segmentsOf(path: string): readonly string[] {
  const parsed = parsePathPattern(path);
  if (!parsed.ok) throw new TypeError(parsed.reason);
  return parsed.segments;
}
