import type { Redis } from 'ioredis';
import type { RedisConnection } from '../../src/adapters/redis/client/connection.ts';
import type { QuotaConnection } from '../../src/adapters/redis/quota/quota-scripts.ts';
import { createRedisQuotaStore, type RedisQuotaStore } from '../../src/adapters/redis/quota/quota-store.ts';
import type { Log, Meter } from '../../src/ports.ts';
import type {
  AccountQuota,
  AccountSlotRequest,
  AdvertisedLimit,
  Decision,
  QuotaPlan,
  TenantQuota,
} from '../../src/quota/quota-store.ts';
import { ManualClock } from './manual-clock.ts';

const quiet = new Proxy({}, { get: () => () => {} });

/** How the commands of a replica fare. */
export type ConnectionState =
  | 'up'
  /** Refused at once, and the connection is gone. */
  | 'down'
  /** Nothing arrives, and nothing is said: a deadline passes. */
  | 'hung'
  /** Carried out, but the reply does not arrive. */
  | 'mute';

export interface Replica {
  readonly id: string;
  readonly store: RedisQuotaStore;
  connection: ConnectionState;
  /** From now on another server is its Redis. */
  moveTo(server: Redis): void;
  /** kill -9: its timers and its connection are gone; what it had sent is still on its way. */
  crash(): void;
  alive: boolean;
}

/** Keys with their contents. */
export type Saved = readonly (readonly [string, Buffer | null])[];

/** Seeded, so that a failure can be seen again. */
export function seededRandom(seed: number): () => number {
  let state = (seed * 2_654_435_761) % 2 ** 32;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface QuotaSimulationOptions {
  readonly redis: Redis;
  readonly account: AccountQuota;
  readonly tenants: Readonly<Record<string, TenantQuota>>;
  readonly prefix: string;
  readonly onOutage?: 'local' | 'closed';
  readonly maxInFlightMs?: number;
  readonly replicaGraceMs?: number;
  readonly log?: Log;
}

/**
 * Replicas on one real Redis, in a time that the test moves: that of the replicas, of the scripts and of the
 * upstream alike. Nothing waits for real time but the replies of Redis.
 */
export class QuotaSimulation {
  readonly clock = new ManualClock();
  /** How far the server's wall clock is off. */
  stepMs = 0;
  readonly replicas: Replica[] = [];
  readonly #options: QuotaSimulationOptions;
  plan: QuotaPlan;
  #pending = 0;
  #named = 0;

  constructor(options: QuotaSimulationOptions) {
    this.#options = options;
    this.plan = {
      accounts: new Map([['main', options.account]]),
      tenants: new Map([['main', new Map(Object.entries(options.tenants))]]),
    };
  }

  async join(name?: string): Promise<Replica> {
    const { redis, prefix, onOutage = 'local', maxInFlightMs = 60_000 } = this.#options;
    const { replicaGraceMs = 120_000, log = quiet as Log } = this.#options;
    this.#named += 1;
    const id = name ?? `r${this.#named}`;
    let epoch = 1;
    const ready = new Set<() => void>();
    const replica: { line: ConnectionState; alive: boolean; server: Redis } = {
      line: 'up',
      alive: true,
      server: redis,
    };
    const call = async (method: 'eval' | 'callBuffer', args: unknown[]): Promise<unknown> => {
      if (!replica.alive || replica.line === 'down') throw new Error('Connection is closed.');
      if (replica.line === 'hung') throw new Error('Command timed out');
      this.#pending += 1;
      try {
        const reply = await (replica.server[method] as (...all: unknown[]) => Promise<unknown>)(...args);
        if (replica.line === 'mute') throw new Error('Command timed out');
        return reply;
      } finally {
        this.#pending -= 1;
      }
    };
    const client = {
      eval: (...args: unknown[]) => call('eval', args),
      callBuffer: (...args: unknown[]) => call('callBuffer', args),
    } as unknown as Redis;
    const clock = this.clock;
    const connection: QuotaConnection & Pick<RedisConnection, 'onReady' | 'fault'> = {
      client,
      isCluster: false,
      isReady: () => replica.alive && replica.line !== 'down',
      epoch: () => epoch,
      onReady: (run) => void ready.add(run),
      fault: () => null,
    };
    const store = createRedisQuotaStore({
      connection,
      clock: {
        now: () => clock.now(),
        monotonic: () => clock.monotonic(),
        after: (ms, run) => clock.after(ms, () => replica.alive && run()),
      },
      serverTime: () => 1_760_000_000_000 + clock.monotonic() + this.stepMs,
      plan: this.plan,
      meter: quiet as Meter,
      log,
      prefix,
      replica: id,
      onOutage,
      replicaGraceMs,
      maxInFlightMs,
      onChange: () => {},
    });
    const made: Replica = {
      id,
      store,
      get connection() {
        return replica.line;
      },
      set connection(next: ConnectionState) {
        if (replica.line === next) return;
        // A connection that was cut is another one when it is back.
        if (next === 'down' || replica.line === 'down') epoch += 1;
        replica.line = next;
        if (next === 'up') for (const run of ready) run();
      },
      get alive() {
        return replica.alive;
      },
      set alive(alive: boolean) {
        replica.alive = alive;
      },
      moveTo(server) {
        this.connection = 'down';
        replica.server = server;
        this.connection = 'up';
      },
      crash() {
        replica.alive = false;
      },
    };
    this.replicas.push(made);
    await store.start();
    return made;
  }

  configure(account: AccountQuota, tenants: Readonly<Record<string, TenantQuota>>): void {
    this.plan = {
      accounts: new Map([['main', account]]),
      tenants: new Map([['main', new Map(Object.entries(tenants))]]),
    };
    for (const { store, alive } of this.replicas) if (alive) store.configure(this.plan);
  }

  /** The content that Redis would have on its disk now. */
  async dump(): Promise<Saved> {
    const { redis, prefix } = this.#options;
    const keys = await redis.keys(`${prefix}:*`);
    return Promise.all(keys.map(async (key) => [key, await redis.dumpBuffer(key)] as const));
  }

  /** As another process, with what the one before had on its disk. */
  async restore(saved: Saved): Promise<void> {
    const { redis, prefix } = this.#options;
    await redis.flushall();
    for (const [key, value] of saved) if (value !== null) await redis.restore(key, 0, value);
    await redis.hset(`${prefix}:{main}:quota`, 'run', 'another');
  }

  /** Until all replies are here and have been dealt with. */
  async settle(): Promise<void> {
    for (let calm = 0; calm < 3; ) {
      await new Promise((resolve) => setImmediate(resolve));
      calm = this.#pending === 0 ? calm + 1 : 0;
    }
  }

  async pass(ms: number, stepMs = 50): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(left, stepMs));
      await this.settle();
    }
  }

  async ask(replica: Replica, tenant = 'a', maxWaitMs = 0): Promise<Decision> {
    const request: AccountSlotRequest = { account: 'main', tenant, maxWaitMs };
    return replica.store.admit(request);
  }
}

/** Patchworks' counter, and what a judge sees of it. */
export class Upstream {
  readonly arrivals: number[] = [];
  /** May be changed while it runs; the open window stays. */
  limit: number;
  throttled = 0;
  #throttleNext: number | null = null;
  #opened = Number.NEGATIVE_INFINITY;
  #count = 0;
  /** Requests counted in any of its windows at most. */
  greatestInWindow = 0;

  /** @param limit infinite: its responses have no limit headers */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** Requests counted in the latest window. */
  get counted(): number {
    return this.#count;
  }

  /** The next one that arrives gets a 429. */
  throttle(retryAfterMs: number): void {
    this.#throttleNext = retryAfterMs;
  }

  arrive(at: number): AdvertisedLimit {
    this.arrivals.push(at);
    const { limit } = this;
    if (this.#throttleNext !== null) {
      const retryAfterMs = this.#throttleNext;
      this.#throttleNext = null;
      return { limit, remaining: 0, throttled: { retryAfterMs } };
    }
    if (at - this.#opened >= 60_000) {
      this.#opened = at;
      this.#count = 0;
    }
    if (this.#count >= limit) {
      this.throttled += 1;
      return { limit, remaining: 0, throttled: { retryAfterMs: 10_000 } };
    }
    this.#count += 1;
    this.greatestInWindow = Math.max(this.greatestInWindow, this.#count);
    if (limit === Number.POSITIVE_INFINITY) return { limit: null, remaining: null, throttled: null };
    return { limit, remaining: limit - this.#count, throttled: null };
  }

  greatestInAnyMinute(): number {
    const times = [...this.arrivals].sort((a, b) => a - b);
    let greatest = 0;
    for (let to = 0, from = 0; to < times.length; to++) {
      while ((times[from] as number) <= (times[to] as number) - 60_000) from++;
      greatest = Math.max(greatest, to - from + 1);
    }
    return greatest;
  }

  between(from: number, to: number): number {
    return this.arrivals.filter((at) => at >= from && at < to).length;
  }
}

/** Sends each admitted request to the upstream, with a latency on both ways. */
export function sendTo(upstream: Upstream, world: QuotaSimulation, latency: () => number, decision: Decision): boolean {
  if (decision.kind === 'rejected') return false;
  const { clock } = world;
  clock.after(latency(), () => {
    const seen = upstream.arrive(clock.monotonic());
    clock.after(latency(), () => decision.slot.complete(seen));
  });
  return true;
}
