import type { Cluster, Redis } from 'ioredis';
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';

/** Counts points by key in fixed windows, over all replicas where there is Redis. */
export interface Counter {
  /** Resolves to how long the key is over its limit; 0 if it is not. Never rejects. */
  add(key: string, points: number): Promise<number>;
}

export interface CounterOptions {
  readonly name: string;
  /** In a window. */
  readonly limit: number;
  /** Whole seconds: rate-limiter-flexible drops fractions, and takes 0 for ever. */
  readonly windowSeconds: number;
  /** Null: counted in this process. */
  readonly redis: { readonly client: Redis | Cluster; readonly prefix: string } | null;
  /** Redis did not answer: counted in this process instead. */
  readonly onFallback: () => void;
}

/** rate-limiter-flexible, with its traps in one place. */
export function createCounter(options: CounterOptions): Counter {
  const limiter = limiterOf(options);
  return {
    async add(key, points) {
      try {
        const { consumedPoints, msBeforeNext } = await limiter.consume(key, points);
        // The limit itself is within the limit; the next is not.
        return consumedPoints >= options.limit ? Math.max(0, msBeforeNext) : 0;
      } catch (rejected) {
        // Being over the limit comes as a rejection too, and is no Error.
        if (rejected instanceof RateLimiterRes) return Math.max(0, rejected.msBeforeNext);
        options.onFallback();
        return 0;
      }
    },
  };
}

function limiterOf({ name, limit, windowSeconds, redis, onFallback }: CounterOptions): RateLimiterAbstract {
  const window = { points: limit, duration: windowSeconds };
  if (redis === null) return new RateLimiterMemory({ ...window, keyPrefix: name });
  return new RateLimiterRedis({
    ...window,
    storeClient: redis.client,
    keyPrefix: `${redis.prefix}:guard:${name}`,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new CountedInsurance({ ...window, keyPrefix: name }, onFallback),
  });
}

/** The insurance answers in silence; somebody should hear that it had to. */
class CountedInsurance extends RateLimiterMemory {
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
