import type { Cluster, Redis } from 'ioredis';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { FailedAuthLimit, FloodLimit } from '../auth/authenticate.ts';
import type { Clock } from '../clock.ts';
import type { Meter } from '../ports.ts';

export interface AbuseLimits {
  readonly failedAuthLimit: FailedAuthLimit;
  readonly floodLimit: FloodLimit;
}

/** @param redis null: each limit is counted in this process, as it is while Redis does not respond */
export function createAbuseLimits({
  limits,
  clock,
  meter,
  redis,
}: {
  readonly limits: { readonly failedAuth: number; readonly requestsPerSecond: number };
  readonly clock: Clock;
  readonly meter: Meter;
  readonly redis: CounterOptions['redis'];
}): AbuseLimits {
  const counter = (name: 'guess' | 'flood', limit: number, windowSeconds: number): Counter =>
    createCounter({ name, limit, windowSeconds, redis, onFallback: () => meter.guardFallback(name) });
  const { failedAuth, requestsPerSecond: limit } = limits;
  return {
    failedAuthLimit: createFailedAuthLimit({
      counter: counter('guess', failedAuth, FAILED_AUTH_WINDOW_SECONDS),
      ...{ clock, limit: failedAuth },
    }),
    floodLimit: createFloodLimit({ counter: counter('flood', limit, FLOOD_WINDOW_SECONDS), clock, limit }),
  };
}

/** Counts points by key in fixed windows, over all replicas where there is Redis. */
export interface Counter {
  /** Resolves to the time for which the key is over its limit; 0 if it is not. Never rejects. */
  add(key: string, points: number): Promise<number>;
}

export interface CounterOptions {
  readonly name: string;
  /** Points in a window. */
  readonly limit: number;
  /** Whole seconds: rate-limiter-flexible drops fractions, and 0 means for ever. */
  readonly windowSeconds: number;
  readonly redis: { readonly client: Redis | Cluster; readonly prefix: string } | null;
  /** Redis did not respond: this process counts by itself. */
  readonly onFallback: () => void;
}

export function createCounter(options: CounterOptions): Counter {
  const limiter = createLimiter(options);
  return {
    async add(key, points) {
      try {
        const { consumedPoints, msBeforeNext } = await limiter.consume(key, points);
        // At the limit the key is blocked: its next point would exceed it.
        return consumedPoints >= options.limit ? Math.max(0, msBeforeNext) : 0;
      } catch (rejected) {
        // A key over its limit is a rejection too, and its reason is not an Error.
        if (rejected instanceof RateLimiterRes) return Math.max(0, rejected.msBeforeNext);
        options.onFallback();
        return 0;
      }
    },
  };
}

function createLimiter({ name, limit, windowSeconds, redis, onFallback }: CounterOptions): RateLimiterAbstract {
  const window = { points: limit, duration: windowSeconds };
  if (redis === null) return new RateLimiterMemory({ ...window, keyPrefix: name });
  return new RateLimiterRedis({
    ...window,
    storeClient: redis.client,
    keyPrefix: `${redis.prefix}:guard:${name}`,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new CountedFallback({ ...window, keyPrefix: name }, onFallback),
  });
}

/** rate-limiter-flexible does not report that its insurance limiter was used. */
class CountedFallback extends RateLimiterMemory {
  readonly #onFallback: () => void;

  constructor(options: ConstructorParameters<typeof RateLimiterMemory>[0], onFallback: () => void) {
    super(options);
    this.#onFallback = onFallback;
  }

  override consume(key: string | number, points?: number): Promise<RateLimiterRes> {
    this.#onFallback();
    return super.consume(key, points);
  }
}

const FAILED_AUTH_WINDOW_SECONDS = 60;
/** Bounds the memory for blocked addresses and for those that failed within a window. */
const MAX_ADDRESSES = 10_000;

/**
 * Blocks an address after too many failed authentications. This replica counts its own failures before their responses, so that
 * none of many requests that arrive together passes the limit. Failures on other replicas count as soon as the counter responds
 * to the next failure here.
 */
export function createFailedAuthLimit(options: {
  readonly counter: Counter;
  readonly clock: Clock;
  /** Failures in a window. */
  readonly limit: number;
}): FailedAuthLimit {
  const { counter, clock, limit } = options;
  const blockedUntil = new LRUCache<string, number>({ max: MAX_ADDRESSES });
  /** Failures in this window. */
  const failures = new Map<string, number>();
  let windowEnd = 0;
  return {
    blockedForMs(address) {
      if (blockedUntil.size === 0) return 0;
      return Math.max(0, (blockedUntil.get(networkOf(address)) ?? 0) - clock.monotonic());
    },
    failed(address) {
      const network = networkOf(address);
      const now = clock.monotonic();
      if (now >= windowEnd) {
        failures.clear();
        windowEnd = now + FAILED_AUTH_WINDOW_SECONDS * 1000;
      }
      if (!failures.has(network) && failures.size >= MAX_ADDRESSES) return;
      const count = (failures.get(network) ?? 0) + 1;
      failures.set(network, count);
      if (count >= limit) blockedUntil.set(network, windowEnd);
      void counter.add(network, 1).then((blockedMs) => {
        if (blockedMs > 0) blockedUntil.set(network, clock.monotonic() + blockedMs);
      });
    },
  };
}

/** An IPv6 caller can choose any address of its /64, so the whole /64 counts as one. */
function networkOf(address: string): string {
  if (!address.includes(':') || !ipaddr.isValid(address)) return address;
  const parsed = ipaddr.parse(address);
  if (!(parsed instanceof ipaddr.IPv6)) return address;
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString();
  return parsed.parts
    .slice(0, 4)
    .map((part) => part.toString(16))
    .join('-');
}

const FLOOD_WINDOW_SECONDS = 1;
/** Requests are added to the shared counter in batches, at most this often. */
const BATCH_MS = 200;

interface TenantRate {
  /** Requests since the latest batch. */
  unreported: number;
  /** Requests in this second, through this replica. */
  count: number;
  windowEnd: number;
  blockedUntil: number;
}

/**
 * Counts every request of a tenant without waiting: batches go to the counter that replicas share, and its reply blocks the
 * tenant for the rest of the second. Tenants come from the configuration, which bounds the map.
 */
export function createFloodLimit(options: {
  readonly counter: Counter;
  readonly clock: Clock;
  /** Requests a second. */
  readonly limit: number;
}): FloodLimit {
  const { counter, clock, limit } = options;
  const rates = new Map<string, TenantRate>();
  let scheduled = false;

  const report = (): void => {
    scheduled = false;
    for (const [tenant, rate] of rates) {
      if (rate.unreported === 0) {
        if (rate.windowEnd < clock.monotonic()) rates.delete(tenant);
        continue;
      }
      const points = rate.unreported;
      rate.unreported = 0;
      void counter.add(tenant, points).then((blockedMs) => {
        if (blockedMs > 0) rate.blockedUntil = Math.max(rate.blockedUntil, clock.monotonic() + blockedMs);
      });
    }
    if (rates.size > 0) schedule();
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    clock.after(BATCH_MS, report);
  };

  return {
    blockedForMs(tenant) {
      const now = clock.monotonic();
      let rate = rates.get(tenant);
      if (rate === undefined) {
        rate = { unreported: 0, count: 0, windowEnd: 0, blockedUntil: 0 };
        rates.set(tenant, rate);
      }
      if (rate.blockedUntil > now) return rate.blockedUntil - now;
      if (rate.windowEnd <= now) {
        rate.count = 0;
        rate.windowEnd = now + FLOOD_WINDOW_SECONDS * 1000;
      }
      rate.count += 1;
      rate.unreported += 1;
      if (rate.count > limit) rate.blockedUntil = rate.windowEnd;
      schedule();
      return rate.blockedUntil > now ? rate.blockedUntil - now : 0;
    },
  };
}
