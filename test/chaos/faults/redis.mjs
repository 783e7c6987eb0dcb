// What happens to Redis.

/** @typedef {import('../types.ts').Fault} Fault */

/** Redis is gone, or is asked for longer than it may take: nobody may be admitted for some seconds. */
const AWAY = ['state_unavailable'];
const ALL = /** @type {const} */ (['alone', 'sentinel', 'cluster']);

/** @type {Fault} */
const hung = {
  name: 'redis-hung',
  about: 'the server that holds the state is stopped (SIGSTOP), its connections stay open',
  states: ['alone'],
  short: ['alone'],
  may: AWAY,
  inject: async ({ redis }) => (await redis.holder()).stop(),
  lift: ({ redis }) => redis.nodes.forEach((node) => void node.resume()),
};

/** @type {Fault} */
const flushed = {
  name: 'redis-flushall',
  about: 'FLUSHALL',
  states: ALL,
  short: ['alone'],
  may: AWAY,
  forgetsKeys: true,
  lastsMs: 0,
  inject: async ({ redis }) => void (await (await redis.holder()).client().flushall()),
};

/** @type {readonly Fault[]} */
export const redisFaults = [hung, flushed];
