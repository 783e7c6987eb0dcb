import {
  DEFAULT_WAIT_TERMS,
  extend,
  type Handler,
  type Middleware,
  type Result,
  reject,
  type WithWaitTerms,
} from '../context.ts';
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
} from './cached-response.ts';
import { invalidateAfterWrite } from './invalidation.ts';
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
      const { method, headers, segments, canonicalQuery } = context;
      if (method === 'OPTIONS') return forwardMarked(context, 'method');
      if (method !== 'GET' && method !== 'HEAD') return write(context);
      const directives = readRequestDirectives(headers);
      const rule = ruleOf(segments, canonicalQuery);
      if (rule === 'unless') return bypass(context, directives, '; detail=unless');
      if (rule?.store === false || bypassesCache(context) || !isSentAsRead(context)) return bypass(context, directives);
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
