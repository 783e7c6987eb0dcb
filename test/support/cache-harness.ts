import { createInvalidationLog, createMemoryCache } from '../../src/adapters/memory/cache.ts';
import { BodyMemory } from '../../src/body-memory.ts';
import { Coalescing, ExpiringSet } from '../../src/cache/coalescing.ts';
import { cacheFill, type FillContext } from '../../src/cache/fill.ts';
import { cacheLookup } from '../../src/cache/lookup.ts';
import type { CacheableContext, CacheOptions, CacheRule, Unless } from '../../src/cache/options.ts';
import { NEVER_STALE, type StaleWindows } from '../../src/cache/store.ts';
import {
  AccessRecord,
  type ClientDisconnect,
  DisconnectSignal,
  extend,
  headerOf,
  NEVER_DISCONNECTS,
  type ProxyResponse,
  type Rejection,
  type RequestContext,
  type Result,
  reject,
  respond,
  type WaitTerms,
  type WithWaitTerms,
} from '../../src/context.ts';
import type { Meter } from '../../src/ports.ts';
import { parsePattern, splitPath } from '../../src/routing/pattern.ts';
import { ManualClock } from './manual-clock.ts';

export const HIT = /^patchgate; hit; ttl=\d+$/;

export function rule(
  text: string,
  ttlMs: number | false,
  more: Partial<StaleWindows & { unless: Unless; vary: string[]; tags: string[] }> = {},
): CacheRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  if (ttlMs === false) return { match: parsed.pattern, store: false };
  return { match: parsed.pattern, store: true, ttlMs, ...NEVER_STALE, unless: {}, vary: [], tags: [], ...more };
}

export interface TestRequest {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: RequestContext['headers'];
  readonly account?: string;
  readonly tenant?: string;
  readonly disconnect?: ClientDisconnect;
}

/** An upstream whose responses a test writes. */
export type Upstream = (context: FillContext) => Result | Promise<Result>;

/** Stands in for the quota: rejects a request, or lets it pass at once or later. */
export type Gate = (context: CacheableContext, terms: WaitTerms) => Rejection | null | Promise<Rejection | null>;

/** Both halves of the cache, with a test's quota between them (default: every request passes) and its upstream below. */
export function cacheHarness(upstream: Upstream, options: Partial<CacheOptions> & { readonly gate?: Gate } = {}) {
  const { gate = () => null, ...more } = options;
  const clock = new ManualClock();
  const avoided: string[] = [];
  const known: Partial<Meter> = { requestAvoided: (tenant, by) => void avoided.push(`${tenant} ${by}`) };
  const meter = new Proxy(known, { get: (own, name: keyof Meter) => own[name] ?? (() => {}) }) as Meter;
  const memory = createMemoryCache({ maxBytes: 1_000_000, clock, meter });
  const background: Promise<unknown>[] = [];
  const all: CacheOptions = {
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
    bodyMemory: new BodyMemory(1_000_000, clock),
    clock,
    meter,
    background: (work) => void background.push(work),
    ...more,
  };
  const fetches: FillContext[] = [];
  let refunded = 0;
  const fill = cacheFill<FillContext>(all)(async (context) => {
    fetches.push(context);
    return upstream(context);
  });
  const lookup = cacheLookup<CacheableContext>(all)(async (context) => {
    const slot = { refund: () => void refunded++ };
    const decision = gate(context, (context as CacheableContext & WithWaitTerms).waitTerms);
    const rejection = decision instanceof Promise ? await decision : decision;
    return rejection ?? fill(extend(context, { sending: { slot } }));
  });
  const request = async (given: TestRequest = {}): Promise<ProxyResponse> => {
    const { method = 'GET', path = '/a', headers = {}, account = 'main', disconnect = NEVER_DISCONNECTS } = given;
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
      record: { ...new AccessRecord(), tenant: given.tenant ?? 'one' },
      trace: null,
      route: { upstream: { id: 'core', account, origin: 'http://core.test', timeoutMs: 30_000 }, rewrite: null },
    } as unknown as CacheableContext;
    return (await lookup(context)) as ProxyResponse;
  };
  return {
    clock,
    memory,
    invalidations: all.invalidations,
    request,
    /** The Cache-Status of the response. */
    status: async (given?: TestRequest) => headerOf((await request(given)).headers ?? [], 'cache-status'),
    /** The requests that reached the upstream. */
    fetches,
    refunded: () => refunded,
    /** A line for each request that needed no fetch: tenant and reason. */
    avoided,
    /** Resolves when the background refreshes so far have ended. */
    settled: () => Promise.all(background),
  };
}

export const ok =
  (headers: string[] = [], body = 'body', status = 200) =>
  () =>
    respond(status, [...headers], Buffer.from(body));

/** An upstream that responds when a test says so, to each request on its own. */
export function pendingUpstream() {
  const pending: { readonly context: FillContext; readonly respond: (result: Result) => void }[] = [];
  const upstream = (context: FillContext) =>
    new Promise<Result>((resolve) => {
      context.disconnect.onDisconnect(() => resolve(reject('client_closed')));
      pending.push({ context, respond: resolve });
    });
  return { upstream, pending };
}

/** Runs everything that is ready to run. */
export const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

export const statusOf = ({ headers }: ProxyResponse) => headerOf(headers ?? [], 'cache-status');

/** A caller that can disconnect. */
export const caller = (): DisconnectSignal => new DisconnectSignal();
