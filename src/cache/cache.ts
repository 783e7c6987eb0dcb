import { extend, type Handler, type OnTerms, type Outcome, refuse, type Stage, USUAL_TERMS } from '../exchange.ts';
import { lookUp } from './answers.ts';
import { primaryKey } from './key.ts';
import { createMisses } from './misses.ts';
import { type Cacheable, type CacheOptions, type Fetching, fetchOf } from './options.ts';
import { ruleFor } from './rules.ts';
import { createServe } from './serve.ts';
import { type Forward, marked } from './status.ts';
import { ageOf } from './store.ts';
import { isBeyondCache, judge, readWishes, toleratesStale, wantsPart } from './wishes.ts';
import { writeHandler } from './writes.ts';

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
export function cacheAnswers<E extends Cacheable>(options: CacheOptions): Stage<E, E & Fetching & OnTerms> {
  const { rules, clock, scope } = options;
  if (!(options.maxEntryBytes >= 0)) throw new RangeError('maxEntryBytes must not be negative');
  const serve = createServe(options);

  return function cached(next: Handler<E & Fetching & OnTerms>): Handler<E> {
    const misses = createMisses<E>(options, serve, next);
    const afterWrite = writeHandler<E>(options);
    const passOn: Handler<E> = (exchange) => next(extend(exchange, { fetch: fetchOf(null), terms: USUAL_TERMS }));

    const passMarked = (exchange: E, why: Forward): Outcome | Promise<Outcome> => {
      const mark = (outcome: Outcome): Outcome => (outcome.kind === 'answer' ? marked(outcome, why, false) : outcome);
      const outcome = passOn(exchange);
      return outcome instanceof Promise ? outcome.then(mark) : mark(outcome);
    };

    return function answerFromCache(exchange) {
      if (exchange.method !== 'GET' && exchange.method !== 'HEAD') {
        return exchange.method === 'OPTIONS' ? passMarked(exchange, 'method') : afterWrite(exchange, passOn);
      }
      const rule = ruleFor(rules, exchange.segments);
      const wishes = readWishes(exchange.headers);
      const bypass = () => {
        exchange.notes.cache = 'bypass';
        return wishes.onlyIfCached ? refuse('only_if_cached') : passMarked(exchange, 'bypass');
      };
      if (rule?.store === false || isBeyondCache(exchange)) return bypass();
      const part = wantsPart(exchange.headers);

      const primary = primaryKey(exchange, scope, rule?.vary);
      const decide = ({ key, entry }: Awaited<ReturnType<typeof lookUp>>): Outcome | Promise<Outcome> => {
        const ageMs = entry === null ? 0 : ageOf(entry, clock.monotonic());
        const usable = entry === null ? 'miss' : judge(ageMs, entry.freshForMs, wishes);
        if (usable === 'fresh' && entry !== null) return serve.hit(exchange, entry);
        if (part) return bypass();
        const why: Forward = usable === 'fresh' ? 'miss' : usable;
        const miss = { primary, key, rule, why, wishes, held: entry };
        if (why === 'stale' && entry !== null && toleratesStale(wishes)) {
          const staleMs = ageMs - entry.freshForMs;
          if (staleMs < entry.stale.staleWhileRevalidateMs) {
            misses.refresh(exchange, miss);
            return serve.stale(exchange, entry, 'stale-while-revalidate');
          }
          if (staleMs < entry.stale.staleIfErrorMs && misses.isFailing(key)) {
            misses.refresh(exchange, miss);
            return serve.stale(exchange, entry, 'stale-if-error');
          }
        }
        exchange.notes.cache = why === 'request' || wishes.noStore ? 'bypass' : 'miss';
        return wishes.onlyIfCached ? refuse('only_if_cached') : misses.fetch(exchange, miss);
      };
      const found = lookUp(options, exchange, primary);
      return found instanceof Promise ? found.then(decide) : decide(found);
    };
  };
}
