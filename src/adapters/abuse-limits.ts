import { createHash } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { FailedAuthLimit, FloodLimit } from '../auth/authenticate.ts';
import type { Clock } from '../clock.ts';
import type { Meter } from '../ports.ts';

/** An address that is blocked now. */
export interface BlockedAddress {
  /** An IPv6 network is shown as a range. */
  readonly address: string;
  readonly forMs: number;
}

export interface BlockingLimit extends FailedAuthLimit {
  blocked(): readonly BlockedAddress[];
}

export interface AbuseLimits {
  readonly failedAuthLimit: BlockingLimit;
  readonly floodLimit: FloodLimit;
}

/** @param redis null: each limit is counted in this process alone, as it is while Redis does not respond */
export function createAbuseLimits({
  limits,
  clock,
  meter,
  redis,
  onBlocked,
}: {
  readonly limits: { readonly failedAuth: number; readonly requestsPerSecond: number };
  readonly clock: Clock;
  readonly meter: Meter;
  readonly redis: CounterOptions['redis'] | null;
  /** An address is blocked from now on. */
  readonly onBlocked: (address: string, forMs: number) => void;
}): AbuseLimits {
  const counter = (name: 'guess' | 'flood', limit: number, windowSeconds: number): Counter | null =>
    redis && createCounter({ name, limit, windowSeconds, redis, onFallback: () => meter.guardFallback(name) });
  const { failedAuth, requestsPerSecond: limit } = limits;
  return {
    failedAuthLimit: createFailedAuthLimit({
      counter: counter('guess', failedAuth, FAILED_AUTH_WINDOW_SECONDS),
      ...{ clock, limit: failedAuth, onBlocked },
    }),
    floodLimit: createFloodLimit({ counter: counter('flood', limit, FLOOD_WINDOW_SECONDS), clock, limit }),
  };
}

/** Counts points by key in fixed windows, over all replicas. Each replica counts its own by itself too. */
export interface Counter {
  /** Resolves to the time for which the key is over its limit; 0 if it is not, or if Redis does not respond. Never rejects. */
  add(key: string, points: number): Promise<number>;
}

export interface CounterOptions {
  readonly name: string;
  /** Points in a window. */
  readonly limit: number;
  /** Whole seconds: rate-limiter-flexible drops fractions, and 0 means for ever. */
  readonly windowSeconds: number;
  readonly redis: { readonly client: Redis | Cluster; readonly prefix: string };
  /** Redis did not respond: this process counts by itself. */
  readonly onFallback: () => void;
}

export function createCounter({ name, limit, windowSeconds, redis, onFallback }: CounterOptions): Counter {
  const limiter = new RateLimiterRedis({
    ...{ points: limit, duration: windowSeconds, storeClient: redis.client, rejectIfRedisNotReady: true },
    keyPrefix: `${redis.prefix}:guard:${name}`,
  });
  return {
    async add(key, points) {
      try {
        const { consumedPoints, msBeforeNext } = await limiter.consume(key, points);
        // At the limit the key is blocked: its next point would exceed it.
        return consumedPoints >= limit ? Math.max(0, msBeforeNext) : 0;
      } catch (rejected) {
        // A key over its limit is a rejection too, and its reason is not an Error.
        if (rejected instanceof RateLimiterRes) return Math.max(0, rejected.msBeforeNext);
        onFallback();
        return 0;
      }
    },
  };
}

const FAILED_AUTH_WINDOW_SECONDS = 60;
/** Networks whose failures are known. Beyond them the one that failed least recently is forgotten. */
const MAX_NETWORKS = 10_000;

interface Failures {
  count: number;
  /** From the first one. */
  readonly windowEnd: number;
  blockedUntil: number;
}

/**
 * Blocks an address after too many failed authentications. This replica counts its own failures before their responses, so that
 * none of many requests that arrive together passes the limit. Failures on other replicas count as soon as the counter responds
 * to the next failure here.
 */
export function createFailedAuthLimit(options: {
  /** Null: there are no other replicas. */
  readonly counter: Counter | null;
  readonly clock: Clock;
  /** Failures in a window. */
  readonly limit: number;
  readonly onBlocked?: (address: string, forMs: number) => void;
}): BlockingLimit {
  const { counter, clock, limit, onBlocked } = options;
  const known = new LRUCache<string, Failures>({ max: MAX_NETWORKS });
  const block = (network: string, failures: Failures, until: number): void => {
    const now = clock.monotonic();
    const isNew = failures.blockedUntil <= now && until > now;
    failures.blockedUntil = Math.max(failures.blockedUntil, until);
    if (isNew) onBlocked?.(shownAs(network), until - now);
  };
  return {
    blockedForMs(address) {
      if (known.size === 0) return 0;
      return Math.max(0, (known.peek(networkOf(address))?.blockedUntil ?? 0) - clock.monotonic());
    },
    failed(address) {
      const network = networkOf(address);
      const now = clock.monotonic();
      let failures = known.get(network);
      if (failures === undefined || now >= failures.windowEnd) {
        failures = { count: 0, windowEnd: now + FAILED_AUTH_WINDOW_SECONDS * 1000, blockedUntil: 0 };
        known.set(network, failures);
      }
      failures.count += 1;
      if (failures.count >= limit) block(network, failures, failures.windowEnd);
      const counted = failures;
      void counter?.add(network, 1).then((blockedMs) => {
        if (blockedMs > 0) block(network, counted, clock.monotonic() + blockedMs);
      });
    },
    blocked() {
      const now = clock.monotonic();
      return [...known].flatMap(([network, { blockedUntil }]) =>
        blockedUntil > now ? [{ address: shownAs(network), forMs: blockedUntil - now }] : [],
      );
    },
  };
}

/**
 * Blocks an address after too many wrong tokens of the admin port. The same one again is no guess: a Prometheus that has missed a
 * rotation must not lock out those who share its address.
 */
export function createGuessLimit(options: {
  readonly clock: Clock;
  readonly limit: number;
  readonly onBlocked?: (address: string, forMs: number) => void;
}) {
  const failures = createFailedAuthLimit({ ...options, counter: null });
  const latest = new LRUCache<string, string>({ max: MAX_NETWORKS });
  return {
    blockedForMs: failures.blockedForMs,
    blocked: failures.blocked,
    guessed(address: string, authorization: string): void {
      const digest = createHash('sha256').update(authorization).digest('base64');
      if (latest.get(address) === digest) return;
      latest.set(address, digest);
      failures.failed(address);
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

/** A network of {@link networkOf} as people write it. */
function shownAs(network: string): string {
  return network.includes('-') ? `${network.replaceAll('-', ':')}::/64` : network;
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
  /** Null: there are no other replicas. */
  readonly counter: Counter | null;
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
      void counter?.add(tenant, points).then((blockedMs) => {
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
