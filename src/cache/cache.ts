import { type Answer, answer, type Handler, refuse, type Stage } from '../exchange.ts';
import { forwarder } from './fill.ts';
import { primaryKey, variantKey } from './key.ts';
import type { Cacheable, CacheOptions } from './options.ts';
import { type CacheRule, isBeyondCache, judge, readWishes, ruleFor, type Wishes } from './policy.ts';
import type { Forward } from './status.ts';
import type { CacheEntry, StoredAnswer } from './store.ts';
import { writeHandler } from './writes.ts';

/**
 * Answers GET and HEAD from what was fetched before, and drops what writes have changed.
 *
 *     GET, HEAD   fresh → answer; else pass on, and store what may be stored
 *     OPTIONS     pass on
 *     the rest    pass on; carried out, or perhaps carried out → drop what it changed, then answer
 */
export function cacheAnswers<E extends Cacheable>(options: CacheOptions): Stage<E, E> {
  const { rules, store } = options;
  if (!(options.maxEntryBytes >= 0)) throw new RangeError('maxEntryBytes must not be negative');
  const afterWrite = writeHandler<E>(options);

  return function cached(next: Handler<E>): Handler<E> {
    const forward = forwarder<E>(options, next);
    const hit = hitRenderer(options);

    function settle(exchange: E, rule: CacheRule | null, key: string, wishes: Wishes, found: StoredAnswer | null) {
      let why: Forward = 'miss';
      if (found !== null) {
        const ageMs = options.clock.monotonic() - found.arrivedAt + found.initialAgeMs;
        const usable = judge(ageMs, found.freshForMs, wishes);
        if (usable === 'fresh') return hit(exchange, found, ageMs);
        why = usable;
      }
      exchange.notes.cache = why === 'request' || wishes.noStore ? 'bypass' : 'miss';
      if (wishes.onlyIfCached) return refuse('only_if_cached');
      // The answer to a HEAD has no body to store.
      return forward(exchange, why, wishes.noStore || exchange.method === 'HEAD' ? null : { key, rule });
    }

    return function answerFromCache(exchange) {
      if (exchange.method !== 'GET' && exchange.method !== 'HEAD') {
        return exchange.method === 'OPTIONS' ? forward(exchange, 'method', null) : afterWrite(exchange, next);
      }
      const rule = ruleFor(rules, exchange.segments);
      const wishes = readWishes(exchange.headers);
      if (rule?.store === false || isBeyondCache(exchange)) {
        exchange.notes.cache = 'bypass';
        return wishes.onlyIfCached ? refuse('only_if_cached') : forward(exchange, 'bypass', null);
      }
      const key = primaryKey(exchange);
      const found = lookUp(options, exchange, key, store.get(key));
      return found instanceof Promise
        ? found.then((entry) => settle(exchange, rule, key, wishes, entry))
        : settle(exchange, rule, key, wishes, found);
    };
  };
}

/** The stored answer that the request selects and that no write has touched. Synchronous where the store is. */
function lookUp(
  options: CacheOptions,
  exchange: Cacheable,
  key: string,
  entry: CacheEntry | undefined | Promise<CacheEntry | undefined>,
): StoredAnswer | null | Promise<StoredAnswer | null> {
  if (entry === undefined) return null;
  if (entry instanceof Promise) return entry.then((found) => lookUp(options, exchange, key, found));
  if (entry.kind === 'signpost') {
    const variant = variantKey(key, entry.fields, exchange.headers);
    return lookUp(options, exchange, variant, options.store.get(variant));
  }
  const { account } = exchange.route.upstream;
  const latest = options.drops.latest(account);
  if (entry.clearedUpTo !== latest) {
    if (!options.drops.untouchedSince(account, exchange.segments, entry.clearedUpTo)) {
      options.store.delete(key);
      return null;
    }
    entry.clearedUpTo = latest;
  }
  return entry;
}

function hitRenderer({ meter }: CacheOptions): (exchange: Cacheable, found: StoredAnswer, ageMs: number) => Answer {
  return function renderHit(exchange, found, ageMs) {
    exchange.notes.cache = 'hit';
    meter.callSaved(exchange.notes.tenant, 'hit');
    // A list of its own for each answer: stages further out add fields of the tenant to it. Age is rounded down and
    // ttl up, so that together they are the lifetime.
    const headers = found.headers.slice();
    const ttl = Math.ceil((found.freshForMs - ageMs) / 1000);
    headers.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', `patchgate; hit; ttl=${ttl}`);
    // A 204 has neither a body nor a length (RFC 9110 section 8.6): an empty Buffer would get one.
    const bodiless = exchange.method === 'HEAD' || found.status === 204;
    return answer(found.status, headers, bodiless ? null : found.body);
  };
}
