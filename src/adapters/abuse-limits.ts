import { createHash } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { FailedAuthLimit, FloodLimit } from '../auth/authenticate.ts';
import type { Clock } from '../clock.ts';
import type { Meter } from '../ports.ts';

export interface BlockingLimit extends FailedAuthLimit {
  /** The addresses that are blocked now. An IPv6 network is shown as a range. */
  blocked(): readonly { readonly address: string; readonly forMs: number }[];
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
}): { readonly failedAuthLimit: BlockingLimit; readonly floodLimit: FloodLimit } {
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

/**
 * Counts points by key in fixed windows, over all replicas. Each replica counts its own by itself too. Resolves to the time for which
 * the key is over its limit; 0 if it is not, or if Redis does not respond. Never rejects.
 */
type Counter = (key: string, points: number) => Promise<number>;

interface CounterOptions {
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
  return async (key, points) => {
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
  };
}

/** Points of a key that this process has counted. Times are of the monotonic clock. */
interface Window {
  count: number;
  end: number;
  blockedUntil: number;
}

/** The window of a key now: it begins with the first point. */
function windowAt(windows: LRUCache<string, Window>, key: string, now: number, seconds: number): Window {
  let window = windows.get(key);
  if (window === undefined) {
    window = { count: 0, end: 0, blockedUntil: 0 };
    windows.set(key, window);
  }
  if (window.end <= now) {
    window.count = 0;
    window.end = now + seconds * 1000;
  }
  return window;
}

const FAILED_AUTH_WINDOW_SECONDS = 60;
/** Networks whose failures are known. Beyond them the one that failed least recently is forgotten. */
const MAX_NETWORKS = 10_000;

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
  const known = new LRUCache<string, Window>({ max: MAX_NETWORKS });
  const block = (network: string, window: Window, until: number): void => {
    const now = clock.monotonic();
    const isNew = window.blockedUntil <= now && until > now;
    window.blockedUntil = Math.max(window.blockedUntil, until);
    if (isNew) onBlocked?.(shownAs(network), until - now);
  };
  return {
    blockedForMs(address) {
      if (known.size === 0) return 0;
      return Math.max(0, (known.peek(networkOf(address))?.blockedUntil ?? 0) - clock.monotonic());
    },
    failed(address) {
      const network = networkOf(address);
      const window = windowAt(known, network, clock.monotonic(), FAILED_AUTH_WINDOW_SECONDS);
      window.count += 1;
      if (window.count >= limit) block(network, window, window.end);
      void counter?.(network, 1).then((blockedMs) => {
        if (blockedMs > 0) block(network, window, clock.monotonic() + blockedMs);
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

/** Tenants whose requests are known. Beyond them the one that called least recently is forgotten: it floods nothing. */
const MAX_TENANTS = 10_000;

/**
 * Counts every request of a tenant without waiting: batches go to the counter that replicas share, and its reply blocks the
 * tenant for the rest of the second.
 */
export function createFloodLimit(options: {
  /** Null: there are no other replicas. */
  readonly counter: Counter | null;
  readonly clock: Clock;
  /** Requests a second. */
  readonly limit: number;
}): FloodLimit {
  const { counter, clock, limit } = options;
  const windows = new LRUCache<string, Window>({ max: MAX_TENANTS });
  /** Requests by tenant since the latest batch. */
  let unreported = new Map<string, number>();

  const report = (): void => {
    for (const [tenant, points] of unreported) {
      void counter?.(tenant, points).then((blockedMs) => {
        const window = windows.peek(tenant);
        if (blockedMs > 0 && window) window.blockedUntil = Math.max(window.blockedUntil, clock.monotonic() + blockedMs);
      });
    }
    unreported = new Map();
  };

  return {
    blockedForMs(tenant) {
      const now = clock.monotonic();
      const window = windowAt(windows, tenant, now, FLOOD_WINDOW_SECONDS);
      if (window.blockedUntil > now) return window.blockedUntil - now;
      window.count += 1;
      if (window.count > limit) window.blockedUntil = window.end;
      if (counter !== null) {
        if (unreported.size === 0) clock.after(BATCH_MS, report);
        unreported.set(tenant, (unreported.get(tenant) ?? 0) + 1);
      }
      return Math.max(0, window.blockedUntil - now);
    },
  };
}
