// Replicas, each with its own connection, as gateways have them; and what their decisions cost Redis.
import { setTimeout as pause } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { end, freePort, startRedis } from '../../chaos/rig.mjs';
import { inRoot, quantile } from '../page.mjs';

// The built product, with the types of its sources.
const { createRedisQuotaStore } = /** @type {typeof import('../../../src/adapters/redis/quota/quota-store.ts')} */ (
  await import(inRoot('dist/adapters/redis/quota/quota-store.js'))
);
const { openRedis } = /** @type {typeof import('../../../src/adapters/redis/client/connection.ts')} */ (
  await import(inRoot('dist/adapters/redis/client/connection.js'))
);
const { systemClock } = /** @type {typeof import('../../../src/clock.ts')} */ (await import(inRoot('dist/clock.js')));

/** @typedef {import('../../../src/quota/quota-store.ts').Decision} Decision */
/** @typedef {import('../../../src/adapters/redis/quota/quota-store.ts').RedisQuotaStore} RedisQuotaStore */
/** @typedef {{ replicas: number, tenants: number, ceiling: number, accounts?: number }} Shape */

/** A meter and a log. @type {any} */
const quiet = new Proxy({}, { get: () => () => {} });
const TICK_MS = 1;
/** From the decision to the response of the upstream. */
const ANSWER_MS = 20;
const FILLERS = 64;
const LONGEST_FILL_MS = 25_000;

/** @param {Shape} shape */
function planOf({ tenants, ceiling, accounts = 1 }) {
  const quota = { limit: ceiling + 5, ceiling, burst: ceiling };
  const tenant = { rate: ceiling, burst: ceiling, weight: 1, reserved: 0, maxWaitMs: 0 };
  const ids = Array.from({ length: accounts }, (_, i) => `account-${i}`);
  const all = new Map(Array.from({ length: tenants }, (_, i) => [`tenant-${i}`, tenant]));
  return { accounts: new Map(ids.map((id) => [id, quota])), tenants: new Map(ids.map((id) => [id, all])) };
}

/** @param {Shape} shape */
export async function openQuotaStores(shape) {
  const port = await freePort();
  const server = await startRedis(port);
  const client = new Redis({ port });
  const plan = planOf(shape);
  const servers = { kind: /** @type {const} */ ('alone'), host: '127.0.0.1', port, db: 0 };
  const settings = { servers, username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const opened = Array.from({ length: shape.replicas }, (_, i) => {
    const connection = openRedis({ settings, clock: systemClock, log: quiet });
    /** @type {RedisQuotaStore} */
    const store = createRedisQuotaStore({
      ...{ connection, plan, clock: systemClock, meter: quiet, log: quiet, prefix: 'bench', replica: `replica-${i}` },
      ...{
        onOutage: 'local',
        replicaGraceMs: 120_000,
        maxInFlightMs: 335_000,
        onChange: () => {},
      },
    });
    return { connection, store };
  });
  await Promise.all(opened.map(({ store }) => store.start()));
  const stores = opened.map(({ store }) => store);
  // A state that is new gives other replicas time before it admits.
  for (const store of stores) {
    while ((await admit(store, 'tenant-0')).kind !== 'admitted') await pause(50);
  }
  return {
    ...{ shape, stores, client },
    async close() {
      for (const { connection } of opened) connection.close();
      client.disconnect();
      await end(server);
      // Their timers find no Redis any more, and are of no use to anybody.
      await Promise.race([Promise.all(stores.map((store) => store.stop())), pause(500)]);
    },
  };
}

/** @typedef {Awaited<ReturnType<typeof openQuotaStores>>} QuotaStores */

/** @param {RedisQuotaStore} store @param {string} tenant @returns {Promise<Decision>} */
async function admit(store, tenant) {
  const decision = await store.admit({ account: 'account-0', tenant, maxWaitMs: 0 });
  if (decision.kind === 'admitted') {
    setTimeout(() => decision.slot.complete({ limit: null, remaining: null, throttled: null }), ANSWER_MS);
  }
  return decision;
}

/** Until the window of the account is full. @param {QuotaStores} world */
export async function fillUp({ stores, shape, client }) {
  // The bucket of a state made anew is nearly empty, and would take a minute to fill.
  await client.hset('bench:{account-0}:quota', 'spent', 0);
  let taken = 0;
  let full = false;
  const until = performance.now() + LONGEST_FILL_MS;
  await Promise.all(
    Array.from({ length: FILLERS }, async (_, i) => {
      const store = /** @type {RedisQuotaStore} */ (stores[i % stores.length]);
      for (let turn = i; !full && performance.now() < until; turn += FILLERS) {
        const decision = await admit(store, `tenant-${turn % shape.tenants}`);
        if (decision.kind === 'admitted') taken += 1;
        else if (decision.by === 'account') full = true;
      }
    }),
  );
  return { taken, full };
}

/**
 * Asks at a constant rate over all replicas and tenants; latency counts from the moment each was due.
 * @param {QuotaStores} world @param {{ rate: number, seconds: number }} load
 */
export async function decide({ stores, client, shape }, { rate, seconds }) {
  /** @type {number[]} */
  const ms = [];
  let admitted = 0;
  const load = await loadOfRedis(client);
  const began = performance.now();
  /** @type {Promise<void>[]} */
  const all = [];
  for (let i = 0; i < rate * seconds; ) {
    for (const now = performance.now() - began; i < rate * seconds && (i * 1000) / rate <= now; i++) {
      const dueAt = began + (i * 1000) / rate;
      const store = /** @type {RedisQuotaStore} */ (stores[i % stores.length]);
      all.push(
        admit(store, `tenant-${i % shape.tenants}`).then(({ kind }) => {
          ms.push(performance.now() - dueAt);
          admitted += kind === 'admitted' ? 1 : 0;
        }),
      );
    }
    await pause(TICK_MS);
  }
  await Promise.all(all);
  // The latest admissions are complete by then.
  await pause(ANSWER_MS * 2);
  const cost = await load.since();
  return {
    ...{ admitted, rejected: ms.length - admitted, p50: quantile(ms, 0.5), p99: quantile(ms, 0.99) },
    commandsPerSecond: cost.commands / cost.seconds,
    cpuShare: cost.cpuUs / (cost.seconds * 1e6),
    cpuUsPerDecision: cost.cpuUs / ms.length,
    commandsPerDecision: cost.commands / ms.length,
  };
}

/** Measures the cost of idle replicas. @param {QuotaStores} world @param {number} seconds */
export async function rest({ client }, seconds) {
  const load = await loadOfRedis(client);
  const own = process.cpuUsage();
  await pause(seconds * 1000);
  const { user, system } = process.cpuUsage(own);
  const cost = await load.since();
  return {
    commandsPerSecond: cost.commands / cost.seconds,
    cpuShare: cost.cpuUs / (cost.seconds * 1e6),
    ownCpuShare: (user + system) / (cost.seconds * 1e6),
    cpuUsPerCommand: cost.cpuUs / cost.commands,
  };
}

/** Scripts as clients sent them: what a script calls inside is not another command here. @param {Redis} client */
async function loadOfRedis(client) {
  const read = async () => {
    const [stats, cpu] = await Promise.all([client.info('commandstats'), client.info('cpu')]);
    const calls = [...stats.matchAll(/^cmdstat_(evalsha|eval|publish|get|set):calls=(\d+)/gm)];
    const seconds = ['used_cpu_sys', 'used_cpu_user'].map((name) =>
      Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(cpu)?.[1]),
    );
    return {
      at: performance.now(),
      commands: calls
        .filter(([, name]) => name?.startsWith('eval'))
        .reduce((sum, [, , count]) => sum + Number(count), 0),
      cpuUs: seconds.reduce((sum, each) => sum + each, 0) * 1e6,
    };
  };
  const before = await read();
  return {
    since: async () => {
      const after = await read();
      return {
        seconds: (after.at - before.at) / 1000,
        commands: after.commands - before.commands,
        cpuUs: after.cpuUs - before.cpuUs,
      };
    },
  };
}

/** Returns the bytes of all keys of an account, as Redis counts them. @param {QuotaStores} world */
export async function memoryOf({ client }) {
  const keys = await client.keys('bench:{account-0}:*');
  const bytes = await Promise.all(keys.map((key) => client.memory('USAGE', key, 'SAMPLES', 0)));
  return bytes.reduce((/** @type {number} */ sum, each) => sum + Number(each ?? 0), 0);
}
