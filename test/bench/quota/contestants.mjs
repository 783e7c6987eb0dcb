import { fileURLToPath } from 'node:url';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
// The built product, with the types of its sources.
const { createMemoryQuotaStore } = /** @type {typeof import('../../../src/adapters/memory/quota-store.ts')} */ (
  await import(inRoot('dist/adapters/memory/quota-store.js'))
);
const { createRedisQuotaStore } = /** @type {typeof import('../../../src/adapters/redis/quota/quota-store.ts')} */ (
  await import(inRoot('dist/adapters/redis/quota/quota-store.js'))
);
const { retryAfterSeconds } = /** @type {typeof import('../../../src/quota/rate-limit.ts')} */ (
  await import(inRoot('dist/quota/rate-limit.js'))
);
const { createAdmissionQueue } = /** @type {typeof import('../../../src/quota/admission-queue.ts')} */ (
  await import(inRoot('dist/quota/admission-queue.js'))
);

/**
 * @typedef {{ limit: number | null, remaining: number | null, throttled: { retryAfterMs: number | null } | null }} Seen
 * @typedef {{ ok: true, answered: (seen: Seen) => void } | { ok: false, retryMs: number }} Grant
 * The view of a caller: it asks, is admitted or must retry later, and reports the response.
 * @typedef {{ ask(tenant: string): Promise<Grant>, settle(): Promise<void>, close(): Promise<void> }} Contestant
 * @typedef {import('./virtual-clock.mjs').VirtualClock} VirtualClock
 * @typedef {{ clock: VirtualClock, random: () => number, tenants: readonly string[], limit: number, redis: import('ioredis').Redis | null }} Course
 */

/** A meter and a log. @type {any} */
const nothing = new Proxy({}, { get: () => () => {} });
const never = { happened: false, onDisconnect: () => () => {} };
const MAX_WAIT_MS = 5_000;
let courses = 0;

/** @param {Course} course @param {number} ceiling */
function planOf({ tenants, limit }, ceiling) {
  const quota = { rate: ceiling, burst: 20, weight: 1, reserved: 0, maxWaitMs: MAX_WAIT_MS };
  return {
    accounts: new Map([['main', { limit, ceiling, burst: 60 }]]),
    tenants: new Map([['main', new Map(tenants.map((id) => [id, quota]))]]),
  };
}

/** Models a gateway process: its quota store and its admission queue. @param {import('../../../src/quota/quota-store.ts').QuotaStore} quotaStore @param {Course} course */
function gatewayOf(quotaStore, { clock, random }) {
  const queue = createAdmissionQueue({ quotaStore, clock });
  return {
    queue,
    /** @param {string} tenant @returns {Promise<Grant>} */
    async ask(tenant) {
      const admission = await queue.enter({ account: 'main', tenant, maxWaitMs: MAX_WAIT_MS, disconnect: never });
      if (admission.kind === 'admitted') return { ok: true, answered: (seen) => admission.slot.complete(seen) };
      if (admission.kind !== 'rejected') throw new Error(`its admission was ${admission.kind}`);
      const { retryAfterMs, appointment = false } = admission;
      // As the gateway sends Retry-After.
      return { ok: false, retryMs: appointment ? retryAfterMs : retryAfterSeconds(retryAfterMs, random) * 1000 };
    },
  };
}

/** @param {number} ceiling @returns {(course: Course) => Promise<Contestant>} */
export const embeddedGateway = (ceiling) => async (course) => {
  const quotaStore = createMemoryQuotaStore({
    clock: course.clock,
    plan: planOf(course, ceiling),
    meter: nothing,
    log: nothing,
  });
  const { ask } = gatewayOf(quotaStore, course);
  return { ask, settle: async () => {}, close: async () => {} };
};

/** Replicas on a real Redis whose scripts receive the time of the simulation. @param {number} ceiling @param {number} replicas @returns {(course: Course) => Promise<Contestant>} */
export const gatewaysOnRedis = (ceiling, replicas) => async (course) => {
  const { clock, redis, random } = course;
  if (redis === null) throw new Error('needs Redis');
  let pending = 0;
  /** @param {'eval' | 'callBuffer'} name */
  const counted =
    (name) =>
    async (/** @type {unknown[]} */ ...args) => {
      pending += 1;
      try {
        return await /** @type {any} */ (redis)[name](...args);
      } finally {
        pending -= 1;
      }
    };
  const prefix = `bench${process.pid}-${courses++}`;
  /** @type {{ ask: (tenant: string) => Promise<Grant> }[]} */
  const gateways = [];
  for (let i = 0; i < replicas; i++) {
    /** @type {{ queue: any, ask: (tenant: string) => Promise<Grant> } | undefined} */
    let gateway;
    const quotaStore = createRedisQuotaStore({
      connection: {
        client: /** @type {any} */ ({ eval: counted('eval'), callBuffer: counted('callBuffer') }),
        isCluster: false,
        isReady: () => true,
        epoch: () => 1,
        onReady: () => {},
        fault: () => null,
      },
      clock,
      serverTime: () => 1_760_000_000_000 + Math.floor(clock.monotonic()),
      plan: planOf(course, ceiling),
      meter: nothing,
      log: nothing,
      prefix,
      replica: `r${i}`,
      onOutage: 'local',
      replicaGraceMs: 120_000,
      maxInFlightMs: 345_000,
      onChange: () => gateway?.queue.reconsider(),
    });
    gateway = gatewayOf(quotaStore, course);
    await quotaStore.start();
    gateways.push(gateway);
  }
  return {
    ask: (tenant) =>
      /** @type {NonNullable<typeof gateways[number]>} */ (gateways[Math.floor(random() * gateways.length)]).ask(
        tenant,
      ),
    async settle() {
      // Commands of a turn of the event loop are sent at its end.
      for (let quiet = 0; quiet < 2; quiet = pending > 0 ? 0 : quiet + 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    close: async () => {
      const keys = await redis.keys(`${prefix}:*`);
      if (keys.length > 0) await redis.del(...keys);
    },
  };
};

/**
 * A limiter in front of the same upstream: asks `waitMs` until it is 0, in the order of arrival, and stops for all when
 * upstream says 429.
 * @param {(now: number, take: boolean) => number} waitFor @param {(now: number) => void} [onAnswered]
 * @returns {(course: Course) => Promise<Contestant>}
 */
const plain =
  (waitFor, onAnswered = () => {}) =>
  async ({ clock, random }) => {
    let heldUntil = 0;
    /** @returns {Promise<Grant>} */
    const ask = async () => {
      const deadline = clock.monotonic() + MAX_WAIT_MS;
      for (;;) {
        const now = clock.monotonic();
        const waitMs = Math.max(heldUntil - now, waitFor(now, heldUntil <= now));
        if (waitMs <= 0) {
          return {
            ok: true,
            answered: ({ throttled }) => {
              onAnswered(clock.monotonic());
              if (throttled) heldUntil = Math.max(heldUntil, clock.monotonic() + (throttled.retryAfterMs ?? 10_000));
            },
          };
        }
        if (now + waitMs > deadline)
          return { ok: false, retryMs: Math.ceil((waitMs * (1 + random() / 4)) / 1000) * 1000 };
        await new Promise((resolve) => clock.after(waitMs + random() * 5, () => resolve(null)));
      }
    };
    return { ask, settle: async () => {}, close: async () => {} };
  };

/** @param {number} limit */
export const fixedWindow = (limit) => (/** @type {Course} */ course) => {
  let window = -1;
  let count = 0;
  return plain((now, take) => {
    const present = Math.floor(now / 60_000);
    if (present !== window) [window, count] = [present, 0];
    if (count >= limit) return (present + 1) * 60_000 - now;
    if (take) count += 1;
    return 0;
  })(course);
};

/** @param {number} limit @param {number} burst */
export const tokenBucket = (limit, burst) => (/** @type {Course} */ course) => {
  let tokens = burst;
  let at = 0;
  return plain((now, take) => {
    tokens = Math.min(burst, tokens + ((now - at) * limit) / 60_000);
    at = now;
    if (tokens < 1) return ((1 - tokens) * 60_000) / limit + 0.01;
    if (take) tokens -= 1;
    return 0;
  })(course);
};

/**
 * Leases and a token bucket as patchgate has them, without pacing: a slot is given out as soon as there is one.
 * @param {number} ceiling @param {number} burst
 */
export const leasesWithoutPacing = (ceiling, burst) => (/** @type {Course} */ course) => {
  let tokens = burst;
  let at = 0;
  let inFlight = 0;
  /** @type {number[]} */
  let expiries = [];
  return plain(
    (now, take) => {
      tokens = Math.min(burst, tokens + ((now - at) * ceiling) / 60_000);
      at = now;
      expiries = expiries.filter((each) => each > now);
      const tokenMs = tokens < 1 ? ((1 - tokens) * 60_000) / ceiling + 0.01 : 0;
      const slotMs = inFlight + expiries.length < ceiling ? 0 : (expiries[0] ?? now + 60_000) - now + 0.01;
      const waitMs = Math.max(tokenMs, slotMs);
      if (waitMs > 0 || !take) return waitMs;
      tokens -= 1;
      inFlight += 1;
      return 0;
    },
    (now) => {
      inFlight -= 1;
      expiries.push(now + 60_100);
    },
  )(course);
};

/** @param {number} limit */
export const slidingLog = (limit) => (/** @type {Course} */ course) => {
  /** @type {number[]} */
  let sent = [];
  return plain((now, take) => {
    sent = sent.filter((each) => each > now - 60_000);
    if (sent.length >= limit) return /** @type {number} */ (sent[0]) + 60_000 - now + 0.01;
    if (take) sent.push(now);
    return 0;
  })(course);
};
