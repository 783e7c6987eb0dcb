import {
  DEFAULT_WAIT_TERMS,
  extend,
  type Handler,
  type Middleware,
  type Result,
  reject,
  type WithWaitTerms,
} from '../context.ts';
import { createCachedResponses } from './cached-response.ts';
import { invalidateAfterWrite } from './invalidation.ts';
import { primaryKey } from './key.ts';
import { createMissHandler } from './miss-handler.ts';
import { type CacheableContext, type CacheOptions, fetchPlan, type WithFetchPlan } from './options.ts';
import { acceptsStale, bypassesCache, evaluate, isRangeRequest, readRequestDirectives } from './request-directives.ts';
import { ruleFor } from './rules.ts';
import { type ForwardReason, withCacheStatus } from './status.ts';
import { ageOf } from './store.ts';
import { findStored } from './variants.ts';

/**
 * Answers GET and HEAD from what was fetched before, and drops what writes have changed.
 *
 *     GET, HEAD   fresh → answer; stale and allowed to be → answer, and fetch anew; else fetch, one request for all who ask
 *     OPTIONS     pass on
 *     the rest    pass on; carried out, or perhaps carried out → drop what it changed, then answer
 *
 * Its other half is {@link fetchAnswers}, below the quota: what is found here costs no slot, and what is stored there is the
 * answer to a request that was paid for.
 */
export function cacheLookup<E extends CacheableContext>(
  options: CacheOptions,
): Middleware<E, E & WithFetchPlan & WithWaitTerms> {
  const { rules, clock, namespace: scope } = options;
  if (!(options.maxEntryBytes >= 0)) throw new RangeError('maxEntryBytes must not be negative');
  const serve = createCachedResponses(options);

  return function cached(next: Handler<E & WithFetchPlan & WithWaitTerms>): Handler<E> {
    const misses = createMissHandler<E>(options, serve, next);
    const afterWrite = invalidateAfterWrite<E>(options);
    const passOn: Handler<E> = (context) =>
      next(extend(context, { fetch: fetchPlan(null), waitTerms: DEFAULT_WAIT_TERMS }));

    const passMarked = async (context: E, why: ForwardReason): Promise<Result> => {
      const outcome = await passOn(context);
      return outcome.kind === 'response' ? withCacheStatus(outcome, why, false) : outcome;
    };

    return async function answerFromCache(context) {
      if (context.method !== 'GET' && context.method !== 'HEAD') {
        return context.method === 'OPTIONS' ? passMarked(context, 'method') : afterWrite(context, passOn);
      }
      const rule = ruleFor(rules, context.segments);
      const wishes = readRequestDirectives(context.headers);
      const bypass = () => {
        context.record.cache = 'bypass';
        return wishes.onlyIfCached ? reject('only_if_cached') : passMarked(context, 'bypass');
      };
      if (rule?.store === false || bypassesCache(context)) return bypass();
      const part = isRangeRequest(context.headers);

      const primary = primaryKey(context, scope, rule?.vary);
      const decide = ({ key, entry }: Awaited<ReturnType<typeof findStored>>): Result | Promise<Result> => {
        const ageMs = entry === null ? 0 : ageOf(entry, clock.monotonic());
        const usable = entry === null ? 'miss' : evaluate(ageMs, entry.freshForMs, wishes);
        if (usable === 'fresh' && entry !== null) return serve.hit(context, entry);
        if (part) return bypass();
        const why: ForwardReason = usable === 'fresh' ? 'miss' : usable;
        const miss = { primary, key, rule, why, wishes, held: entry };
        if (why === 'stale' && entry !== null && acceptsStale(wishes)) {
          const staleMs = ageMs - entry.freshForMs;
          if (staleMs < entry.stale.staleWhileRevalidateMs) {
            misses.refresh(context, miss);
            return serve.stale(context, entry, 'stale-while-revalidate');
          }
          if (staleMs < entry.stale.staleIfErrorMs && misses.isFailing(key)) {
            misses.refresh(context, miss);
            return serve.stale(context, entry, 'stale-if-error');
          }
        }
        context.record.cache = why === 'request' || wishes.noStore ? 'bypass' : 'miss';
        return wishes.onlyIfCached ? reject('only_if_cached') : misses.fetch(context, miss);
      };
      const found = findStored(options, context, primary);
      return found instanceof Promise ? found.then(decide) : decide(found);
    };
  };
}
