import { createMemoryCache } from '../../src/adapters/memory/cache.ts';
import { ExpiringSet } from '../../src/cache/brief.ts';
import { Coalescing, NEVER_DISCONNECTS } from '../../src/cache/coalescing.ts';
import { cacheFill, type Sendable } from '../../src/cache/fill.ts';
import { createInvalidationLog } from '../../src/cache/invalidation-log.ts';
import { cacheLookup } from '../../src/cache/lookup.ts';
import type { CacheableContext, CacheOptions } from '../../src/cache/options.ts';
import { type CacheRule, NEVER_STALE, type StaleWindows } from '../../src/cache/rules.ts';
import {
  type ClientDisconnect,
  extend,
  headerOf,
  newAccessRecord,
  type ProxyResponse,
  type Rejection,
  type RequestContext,
  type Result,
  type WaitTerms,
  type WithWaitTerms,
} from '../../src/context.ts';
import type { Meter } from '../../src/ports.ts';
import { parsePattern, splitPath } from '../../src/routing/pattern.ts';
import { Caller } from '../../src/server/request-context.ts';
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

export interface AskOptions {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: RequestContext['headers'];
  readonly account?: string;
  readonly tenant?: string;
  readonly disconnect?: ClientDisconnect;
}

/** What arrives at an upstream whose answers a test writes. */
export type Upstream = (context: Sendable) => Result | Promise<Result>;

/** Who comes through the quota; a test may refuse, or wait. Default: everybody, at once. */
export type Gate = (context: CacheableContext, terms: WaitTerms) => Rejection | null | Promise<Rejection | null>;

/** Both halves of the cache, with a quota between them and an upstream below, that a test stands in for. */
export function cacheHarness(upstream: Upstream, options: Partial<CacheOptions> & { readonly gate?: Gate } = {}) {
  const { gate = () => null, ...more } = options;
  const clock = new ManualClock();
  const saved: string[] = [];
  const known: Partial<Meter> = { requestAvoided: (tenant, by) => void saved.push(`${tenant} ${by}`) };
  const meter = new Proxy(known, { get: (own, name: keyof Meter) => own[name] ?? (() => {}) }) as Meter;
  const memory = createMemoryCache({ maxBytes: 1_000_000, clock, meter });
  const background: Promise<unknown>[] = [];
  const full: CacheOptions = {
    store: memory,
    invalidations: createInvalidationLog(),
    coalescing: new Coalescing(),
    replicas: null,
    notShareable: new ExpiringSet(clock),
    failing: new ExpiringSet(clock),
    namespace: '',
    rules: [rule('GET /**', 30_000)],
    maxEntryBytes: 1000,
    maxDisconnectedAgeMs: 5_000,
    lateArrivalMs: 15_000,
    clock,
    meter,
    background: (work) => void background.push(work),
    ...more,
  };
  const fetched: Sendable[] = [];
  let refunded = 0;
  const lower = cacheFill<Sendable>(full)(async (context) => {
    fetched.push(context);
    return upstream(context);
  });
  const handler = cacheLookup<CacheableContext>(full)(async (context) => {
    const slot = { refund: () => void refunded++ };
    const asked = gate(context, (context as CacheableContext & WithWaitTerms).waitTerms);
    const refusal = asked instanceof Promise ? await asked : asked;
    return refusal ?? lower(extend(context, { slot }));
  });
  const ask = async (asked: AskOptions = {}) => {
    const { method = 'GET', path = '/a', headers = {}, account = 'main', disconnect = NEVER_DISCONNECTS } = asked;
    const context = {
      method,
      path,
      target: path,
      headers,
      rawHeaders: Object.entries(headers).flatMap(([name, value]) => [name, String(value)]),
      canonicalQuery: '',
      segments: splitPath(path),
      body: null,
      disconnect,
      record: { ...newAccessRecord(), tenant: asked.tenant ?? 'one' },
      trace: null,
      route: { upstream: { id: 'core', account, origin: 'http://core.test', timeoutMs: 30_000 } },
    } as unknown as CacheableContext;
    return (await handler(context)) as ProxyResponse;
  };
  const status = async (asked?: AskOptions) => headerOf((await ask(asked)).headers ?? [], 'cache-status');
  return {
    clock,
    memory,
    drops: full.invalidations,
    ask,
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
