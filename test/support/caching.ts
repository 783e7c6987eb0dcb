import { createMemoryCache } from '../../src/adapters/memory/cache.ts';
import { BriefMemory } from '../../src/cache/brief.ts';
import { cacheAnswers } from '../../src/cache/cache.ts';
import { createDrops } from '../../src/cache/drops.ts';
import { fetchAnswers, type Sendable } from '../../src/cache/fetch.ts';
import { Flights, NOBODY_LEAVES } from '../../src/cache/flights.ts';
import type { Cacheable, CacheOptions } from '../../src/cache/options.ts';
import { type CacheRule, NEVER_STALE, type StaleWindows } from '../../src/cache/rules.ts';
import { Caller } from '../../src/edge/caller.ts';
import {
  type Answer,
  emptyNotes,
  extend,
  type HangUp,
  headerOf,
  type OnTerms,
  type Outcome,
  type Received,
  type Refusal,
  type Terms,
} from '../../src/exchange.ts';
import type { Meter } from '../../src/observe.ts';
import { parsePattern, splitPath } from '../../src/routing/pattern.ts';
import { ManualClock } from './manual-clock.ts';

export const HIT = /^patchgate; hit; ttl=\d+$/;

export function rule(
  text: string,
  ttlMs: number | false,
  more: Partial<StaleWindows & { vary: string[]; tags: string[] }> = {},
): CacheRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  if (ttlMs === false) return { match: parsed.pattern, store: false };
  return { match: parsed.pattern, store: true, ttlMs, ...NEVER_STALE, vary: [], tags: [], ...more };
}

export interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Received['headers'];
  readonly account?: string;
  readonly tenant?: string;
  readonly hangUp?: HangUp;
}

/** What arrives at an upstream whose answers a test writes. */
export type Upstream = (exchange: Sendable) => Outcome | Promise<Outcome>;

/** Who comes through the quota; a test may refuse, or wait. Default: everybody, at once. */
export type Gate = (exchange: Cacheable, terms: Terms) => Refusal | null | Promise<Refusal | null>;

/** Both halves of the cache, with a quota between them and an upstream below, that a test stands in for. */
export function caching(upstream: Upstream, options: Partial<CacheOptions> & { readonly gate?: Gate } = {}) {
  const { gate = () => null, ...more } = options;
  const clock = new ManualClock();
  const saved: string[] = [];
  const known: Partial<Meter> = { callSaved: (tenant, by) => void saved.push(`${tenant} ${by}`) };
  const meter = new Proxy(known, { get: (own, name: keyof Meter) => own[name] ?? (() => {}) }) as Meter;
  const memory = createMemoryCache({ maxBytes: 1_000_000, clock, meter });
  const background: Promise<unknown>[] = [];
  const full: CacheOptions = {
    store: memory,
    drops: createDrops(),
    flights: new Flights(),
    others: null,
    lone: new BriefMemory(clock),
    failing: new BriefMemory(clock),
    scope: '',
    rules: [rule('GET /**', 30_000)],
    maxEntryBytes: 1000,
    unheardMs: 5_000,
    lateArrivalMs: 15_000,
    clock,
    meter,
    background: (work) => void background.push(work),
    ...more,
  };
  const fetched: Sendable[] = [];
  let refunded = 0;
  const lower = fetchAnswers<Sendable>(full)((exchange) => {
    fetched.push(exchange);
    return upstream(exchange);
  });
  const handler = cacheAnswers<Cacheable>(full)((exchange) => {
    const slot = { refund: () => void refunded++ };
    const pass = (refusal: Refusal | null) => refusal ?? lower(extend(exchange, { slot }));
    const asked = gate(exchange, (exchange as Cacheable & OnTerms).terms);
    return asked instanceof Promise ? asked.then(pass) : pass(asked);
  });
  const askNow = (asked: Asked = {}) => {
    const { method = 'GET', path = '/a', headers = {}, account = 'main', hangUp = NOBODY_LEAVES } = asked;
    const exchange = {
      method,
      path,
      target: path,
      headers,
      rawHeaders: Object.entries(headers).flatMap(([name, value]) => [name, String(value)]),
      query: '',
      segments: splitPath(path),
      body: null,
      hangUp,
      notes: { ...emptyNotes(), tenant: asked.tenant ?? 'one' },
      trace: null,
      route: { upstream: { id: 'core', account, origin: 'http://core.test', timeoutMs: 30_000 } },
    } as unknown as Cacheable;
    return handler(exchange);
  };
  const ask = async (asked?: Asked) => (await askNow(asked)) as Answer;
  const status = async (asked?: Asked) => headerOf((await ask(asked)).headers ?? [], 'cache-status');
  return {
    clock,
    memory,
    drops: full.drops,
    ask,
    askNow,
    status,
    /** How often upstream was asked. */
    fetched: () => fetched.length,
    requests: fetched,
    refunded: () => refunded,
    saved,
    /** Resolves when no work goes on in the background. */
    rested: () => Promise.all(background),
  };
}

/** A caller who can leave. */
export const caller = (): Caller => new Caller();
