import {
  DEFAULT_WAIT_TERMS,
  extend,
  type Handler,
  type Middleware,
  type RequestContext,
  type Result,
  reject,
  type WithWaitTerms,
} from '../context.ts';
import { matchesMethod, matchesPath } from '../routing/pattern.ts';
import { isSentAsRead } from '../upstream/headers.ts';
import { deltaSeconds, parseDirectives, secondsOf } from './cache-control.ts';
import { acceptsStale, CachedResponses, evaluate } from './cached-response.ts';
import { invalidateAfterWrite } from './invalidation.ts';
import { ageOf, findStored, primaryKey } from './key.ts';
import { MissHandler } from './miss-handler.ts';
import {
  type CacheableContext,
  type CacheOptions,
  type CacheRule,
  type ForwardReason,
  NOT_FETCHED,
  type RequestDirectives,
  type StoringRule,
  type Unless,
  type WithFetchPlan,
} from './options.ts';

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
  const ruleOf = createRuleFinder(options.rules);

  return (next) => {
    const lookup = new Lookup<E>(options, next);
    const write = invalidateAfterWrite<E>(options, (context) => lookup.forward(context, 'method'));

    // Not async: a hit is the hot path, and every branch returns a promise.
    return (context) => {
      const { method, headers, segments, canonicalQuery, route } = context;
      if (method === 'OPTIONS') return lookup.forward(context, 'method');
      if (method !== 'GET' && method !== 'HEAD') return write(context);
      const directives = readRequestDirectives(headers);
      // Each request starts a run: a caller that is given the response to another one's has started none.
      if (route.starts) return lookup.bypass(context, directives);
      const rule = ruleOf(segments, canonicalQuery);
      context.record.bypassedByRequest = rule === 'unless' || rule?.store !== false;
      if (rule === 'unless') return lookup.bypass(context, directives, '; detail=unless');
      if (rule?.store === false || bypassesCache(context) || !isSentAsRead(context, route.secretHeaders)) {
        return lookup.bypass(context, directives);
      }
      return lookup.serveOrFetch(context, rule, directives);
    };
  };
}

class Lookup<E extends CacheableContext> {
  readonly #options: CacheOptions;
  readonly #next: Handler<Fetchable<E>>;
  readonly #responses: CachedResponses;
  readonly #misses: MissHandler<E>;

  constructor(options: CacheOptions, next: Handler<Fetchable<E>>) {
    this.#options = options;
    this.#next = next;
    this.#responses = new CachedResponses(options);
    this.#misses = new MissHandler(options, this.#responses, next);
  }

  /** The response is not stored. */
  async forward(context: E, reason: 'method' | 'bypass', detail = ''): Promise<Result> {
    const fetch = { storeAs: null, shared: false, existing: null, ...NOT_FETCHED };
    const result = await this.#next(extend(context, { fetch, waitTerms: DEFAULT_WAIT_TERMS }));
    if (result.kind === 'response') result.headers.push('Cache-Status', `patchgate; fwd=${reason}${detail}`);
    return result;
  }

  async bypass(context: E, directives: RequestDirectives, detail?: string): Promise<Result> {
    context.record.cache = 'bypass';
    return directives.onlyIfCached ? reject('only_if_cached') : this.forward(context, 'bypass', detail);
  }

  async serveOrFetch(context: E, rule: StoringRule | null, directives: RequestDirectives): Promise<Result> {
    const { namespace, clock, failing } = this.#options;
    const primary = primaryKey(context, namespace, rule?.vary);
    const { key, entry } = await findStored(this.#options, context, primary);
    const ageMs = entry === null ? 0 : ageOf(entry, clock.monotonic());
    const usability = entry === null ? 'miss' : evaluate(ageMs, entry.freshForMs, directives);
    if (usability === 'fresh' && entry !== null) return this.#responses.hit(context, entry);
    if (isRangeRequest(context.headers)) return this.bypass(context, directives);
    const reason: ForwardReason = usability === 'fresh' ? 'miss' : usability;
    const miss = { primaryKey: primary, fetchKey: key, rule, reason, directives, existing: entry };
    if (reason === 'stale' && entry !== null && acceptsStale(directives)) {
      const staleMs = ageMs - entry.freshForMs;
      if (staleMs < entry.stale.staleWhileRevalidateMs) {
        this.#misses.refreshInBackground(context, miss);
        return this.#responses.stale(context, entry, 'stale-while-revalidate');
      }
      if (staleMs < entry.stale.staleIfErrorMs && failing.has(key)) {
        this.#misses.refreshInBackground(context, miss);
        return this.#responses.stale(context, entry, 'stale-if-error');
      }
    }
    context.record.cache = reason === 'request' || directives.noStore ? 'bypass' : 'miss';
    return directives.onlyIfCached ? reject('only_if_cached') : this.#misses.fetch(context, miss);
  }
}

const NO_DIRECTIVES: RequestDirectives = {
  noCache: false,
  noStore: false,
  onlyIfCached: false,
  maxAgeMs: Number.POSITIVE_INFINITY,
  minFreshMs: 0,
};

/** max-stale is ignored: the operator and the upstream decide what may be served stale. */
export function readRequestDirectives(headers: RequestContext['headers']): RequestDirectives {
  const field = headers['cache-control'];
  if (field === undefined) {
    // Pragma counts only where there is no Cache-Control (section 5.4).
    return headers['pragma'] === undefined || !/\bno-cache\b/i.test(String(headers['pragma']))
      ? NO_DIRECTIVES
      : { ...NO_DIRECTIVES, noCache: true };
  }
  const parsed = parseDirectives(String(field));
  const maxAge = secondsOf(parsed, 'max-age');
  const minFresh = parsed.get('min-fresh');
  return {
    noCache: parsed.has('no-cache'),
    noStore: parsed.has('no-store'),
    onlyIfCached: parsed.has('only-if-cached'),
    maxAgeMs: maxAge === null ? Number.POSITIVE_INFINITY : maxAge * 1000,
    minFreshMs: minFresh === undefined ? 0 : (deltaSeconds(minFresh ?? '') ?? Number.POSITIVE_INFINITY) * 1000,
  };
}

/**
 * Requests that are neither served from the cache nor stored: If-Match and If-Unmodified-Since, which only the origin may evaluate
 * (section 4.3.2), and a GET with a body, which is not part of the key.
 */
export function bypassesCache({ body, headers }: Pick<RequestContext, 'body' | 'headers'>): boolean {
  return body !== null || headers['if-match'] !== undefined || headers['if-unmodified-since'] !== undefined;
}

/** Parts are not stored. A fresh response is served in full, which is always allowed; otherwise the upstream serves the part. */
export function isRangeRequest(headers: RequestContext['headers']): boolean {
  return headers['range'] !== undefined || headers['if-range'] !== undefined;
}

/** The rule of a request; `unless` for one that its rule excludes by a query value; null without a rule. */
type RuleFinder = (segments: readonly string[], query: string) => CacheRule | 'unless' | null;

/** The first rule that matches counts. A rule for GET covers HEAD, which is served from the stored response to a GET. */
export function createRuleFinder(rules: readonly CacheRule[]): RuleFinder {
  const compiled = rules
    .filter(({ match }) => matchesMethod(match, 'GET'))
    .map((rule) => ({ rule, excludes: rule.store ? excluder(rule.unless) : () => false }));
  return (segments, query) => {
    for (const { rule, excludes } of compiled) {
      if (matchesPath(rule.match.segments, segments)) return query !== '' && excludes(query) ? 'unless' : rule;
    }
    return null;
  };
}

/**
 * Whether a query has one of the values. It reads a query at least as generously as PHP and Laravel do, because a value that goes
 * unnoticed puts a secret into the cache, and one too many costs a request:
 *
 * - `name` is also `name[]`, `name[key]`, and the plural `names`; each of several parameters counts, though PHP takes the last
 * - a value is a list, and each of its members a path: `latestVersion.variables`, or `variables:id,value` with columns
 * - a segment matches as a whole: `variables` is not `variables_count`
 * - of a segment neither case nor separators nor a plural matter: method names of PHP have no case
 */
function excluder(unless: Unless): (query: string) => boolean {
  const wanted = new Map(Object.entries(unless).map(([name, values]) => [stem(name), values.map(plainName)]));
  const names = [...wanted.keys()];
  return (query) => {
    // Parsing is slow. A canonical query has no escaped letters; one with a malformed escape is as the caller sent it.
    if (!names.some((name) => query.includes(name) || query.includes('%'))) return false;
    for (const [name, value] of new URLSearchParams(query)) {
      // PHP ignores spaces before a name, and ends it at a NUL.
      const values = wanted.get(stem(/^ *([^[\0]*)/.exec(name)?.[1] ?? ''));
      if (values !== undefined && value.split(/[,.:]/).some((part) => values.includes(plainName(part)))) return true;
    }
    return false;
  };
}

const stem = (name: string): string => name.replace(/s$/, '');

const plainName = (word: string): string => stem(word.toLowerCase().replace(/[^a-z0-9]/g, ''));
