// Faults of Redis itself.
import { pause } from '../rig.mjs';

/** @typedef {import('../types.ts').Fault} Fault */
/** @typedef {import('../types.ts').Server} Server */

const ALL = /** @type {const} */ (['alone', 'sentinel', 'cluster']);
const SEVERAL = /** @type {const} */ (['sentinel', 'cluster']);
/** No request may be admitted for some seconds, and no write with a key until Redis is back. */
const AWAY = ['state_unavailable'];
/** The server is there again before anybody has looked for another. */
const AT_ONCE_MS = 300;
const FAIL_OVERS = 3;
const BETWEEN_MS = 2_000;

const holderOf = (/** @type {import('../types.ts').Fleet} */ { redis }) => redis.holder();
const asServer = (/** @type {unknown} */ server) => /** @type {Server} */ (server);
/** @param {import('../types.ts').Fleet} fleet @param {string} name @param {string | number} value */
const configure = async (fleet, name, value) => {
  const holder = await holderOf(fleet);
  await holder.client().config('SET', name, value);
  return holder;
};

/** @type {Fault} */
const hung = {
  name: 'redis-hung',
  about:
    'the server is stopped (SIGSTOP) with its connections open; with Sentinel or as Cluster another takes over meanwhile',
  states: ALL,
  // Alone they must be long enough for what they may not send to be seen.
  lastsMs: 6_000,
  longMs: 8_000,
  may: AWAY,
  // Writes that the old master had not yet replicated are lost.
  forgetsKeys: true,
  inject: async (fleet) => {
    const holder = await holderOf(fleet);
    holder.stop();
    return holder;
  },
  lift: (_, server) => asServer(server).resume(),
};

/** @type {Fault} */
const killed = {
  name: 'redis-killed',
  about: 'kill -9, and back after 4 s with all it knew (append-only file)',
  states: ['alone'],
  setup: { redis: ['--appendonly', 'yes', '--appendfsync', 'always'] },
  may: AWAY,
  inject: async (fleet) => {
    const holder = await holderOf(fleet);
    await holder.kill();
    return holder;
  },
  lift: (_, server) => asServer(server).start(),
};

/** @type {Fault} */
const emptied = {
  name: 'redis-restarted-empty',
  about: 'kill -9, and back at once with nothing',
  states: ALL,
  may: AWAY,
  forgetsKeys: true,
  lastsMs: AT_ONCE_MS,
  inject: killed.inject,
  lift: (_, server) => asServer(server).start(),
};

/** @type {Fault} */
const failedOver = {
  name: 'redis-failed-over',
  about: 'kill -9 of the master, its replica takes over; the old one comes back as a replica',
  states: SEVERAL,
  may: AWAY,
  forgetsKeys: true,
  lastsMs: 0,
  inject: async (fleet) => {
    const holder = await holderOf(fleet);
    await holder.kill();
    await fleet.redis.movedFrom(holder);
    return holder;
  },
  lift: (_, server) => asServer(server).start(),
};

/** @type {Fault} */
const commanded = {
  name: 'redis-failed-over-by-command',
  about: 'three fail-overs by command, as in maintenance: the old master goes on, and becomes a replica',
  states: SEVERAL,
  may: AWAY,
  // No write is forgotten: replicas enter theirs again.
  lastsMs: 0,
  inject: async ({ redis }) => {
    for (let i = 0; i < FAIL_OVERS; i++) {
      await redis.commandFailOver();
      await pause(BETWEEN_MS);
    }
  },
};

/** @type {Fault} */
const flushed = {
  name: 'redis-flushall',
  about: 'FLUSHALL',
  states: ALL,
  may: AWAY,
  forgetsKeys: true,
  lastsMs: 0,
  inject: async (fleet) => (await holderOf(fleet)).client().flushall(),
};

/** @type {Fault} */
const full = {
  name: 'redis-out-of-memory',
  about: '`maxmemory` reached, policy `noeviction`: OOM to every write',
  states: ['alone', 'cluster'],
  may: AWAY,
  inject: (fleet) => configure(fleet, 'maxmemory', 1),
  lift: (_, server) => asServer(server).client().config('SET', 'maxmemory', 0),
};

/** @type {Fault} */
const readOnly = {
  name: 'redis-readonly',
  about: 'the server becomes a replica of one that is not there: READONLY to every write',
  states: ['alone'],
  may: AWAY,
  inject: async (fleet) => {
    const holder = await holderOf(fleet);
    // No process listens on port 1.
    await holder.client().replicaof('127.0.0.1', 1);
    return holder;
  },
  lift: (_, server) => asServer(server).client().replicaof('NO', 'ONE'),
};

/** @type {Fault} */
const busy = {
  name: 'redis-busy',
  about: 'a script that does not end: BUSY to everything; then SCRIPT KILL',
  states: ['alone'],
  may: AWAY,
  inject: async (fleet) => {
    const holder = await configure(fleet, 'busy-reply-threshold', 100);
    const other = holder.client().duplicate({ commandTimeout: 60_000 });
    other.on('error', () => {});
    other.eval('while true do end', 0).catch(() => other.disconnect());
    return holder;
  },
  lift: (_, server) => asServer(server).client().script('KILL'),
};

/** Connections of all kinds but the run's own. @param {Server} server */
async function hangUp(server) {
  for (const kind of ['normal', 'pubsub']) await server.client().call('CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes');
}

/** @type {Fault} */
const hungUp = {
  name: 'redis-client-kill',
  about: 'CLIENT KILL of all connections, five times a second',
  states: ALL,
  may: AWAY,
  lastsMs: 0,
  inject: async (fleet) => {
    for (let i = 0; i < 10; i++) {
      await hangUp(await holderOf(fleet));
      await pause(200);
    }
  },
};

/** @type {Fault} */
const crowded = {
  name: 'redis-max-clients',
  about: '`maxclients` reached after all connections were lost: every new one is refused',
  states: ['alone'],
  may: AWAY,
  inject: async (fleet) => {
    // This connection belongs to the run.
    const holder = await configure(fleet, 'maxclients', 1);
    await hangUp(holder);
    return holder;
  },
  lift: (_, server) => asServer(server).client().config('SET', 'maxclients', 10_000),
};

/** @type {readonly Fault[]} */
export const redisFaults = [
  hung,
  killed,
  emptied,
  failedOver,
  commanded,
  flushed,
  full,
  readOnly,
  busy,
  hungUp,
  crowded,
];
