// Faults between the gateways and Redis.

/** @typedef {import('../types.ts').Fault} Fault */

const ALL = /** @type {const} */ (['alone', 'sentinel', 'cluster']);
const AWAY = ['state_unavailable'];

/** @param {import('../types.ts').Fleet} fleet */
const firstOf = ({ gateways }) => /** @type {import('../types.ts').Gateway} */ (gateways[0]);

/** @type {Fault} */
const stalled = {
  name: 'redis-partition-silent',
  about: 'one replica is cut off from Redis: its packets vanish',
  states: ALL,
  longMs: 8_000,
  may: AWAY,
  inject: (fleet) => firstOf(fleet).toRedis.set({ swallow: true }),
  lift: (fleet) => firstOf(fleet).toRedis.heal(),
};

/** @type {Fault} */
const late = {
  name: 'redis-partition-held',
  about: 'one replica is cut off from Redis: its packets arrive when the partition ends',
  states: ['alone', 'cluster'],
  longMs: 8_000,
  may: AWAY,
  inject: (fleet) => firstOf(fleet).toRedis.set({ stall: true }),
  lift: (fleet) => firstOf(fleet).toRedis.heal(),
};

/** @type {Fault} */
const refused = {
  name: 'redis-partition-refused',
  about: 'one replica is cut off from Redis: its connections are reset and refused',
  states: ALL,
  longMs: 8_000,
  may: AWAY,
  inject: (fleet) => firstOf(fleet).toRedis.refuse(),
  lift: (fleet) => firstOf(fleet).toRedis.heal(),
};

/** @type {Fault} */
const deaf = {
  name: 'redis-replies-lost',
  about: 'commands of one replica reach Redis, and no reply comes back',
  states: ['alone'],
  longMs: 8_000,
  may: AWAY,
  inject: (fleet) => firstOf(fleet).toRedis.set({ swallow: true }, { direction: 'down' }),
  lift: (fleet) => firstOf(fleet).toRedis.heal(),
};

/** @param {number} delayMs @returns {Fault} */
const slow = (delayMs) => ({
  name: `redis-slow-${delayMs}ms`,
  about: `every reply of Redis takes ${delayMs} ms more, and up to as much again by chance`,
  states: ['alone'],
  longMs: 6_000,
  may: AWAY,
  inject: ({ gateways }) =>
    gateways.forEach(({ toRedis }) => void toRedis.set({ delayMs, jitterMs: delayMs }, { direction: 'down' })),
  lift: async ({ gateways }) => void (await Promise.all(gateways.map(({ toRedis }) => toRedis.heal()))),
});

/** @type {readonly Fault[]} */
export const redisWireFaults = [stalled, late, refused, deaf, slow(5), slow(50), slow(500)];
