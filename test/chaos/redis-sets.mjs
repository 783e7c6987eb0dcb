// Redis as gateways may have it: alone, with three Sentinels, or as a Cluster of three masters and their replicas.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { end, freePort, scratch, start, until } from './rig.mjs';

/** @typedef {import('./types.ts').Server} Server */
/** @typedef {import('./types.ts').RedisSet} RedisSet */

/** The name of the master in the configuration of the Sentinels. */
export const NAME = 'chaos';
const SLOTS = 16_384;
/** Slots of each master. The names put both accounts on the second: {tight} is slot 7,246, {plenty} 6,581. */
const SHARE = 5_461;
/** Timeout for commands of the run itself, so that a hung server does not hang the run. */
const ASK_MS = 5_000;
const HOST = ['--bind', '127.0.0.1', '--save', '', '--repl-diskless-sync-delay', '0'];

/** @param {readonly string[]} args @param {import('./types.ts').Environment} [env] @returns {Promise<Server>} */
async function startServer(args, env) {
  const port = await freePort();
  const own = ['--port', String(port), '--dir', mkdtempSync(join(scratch, 'redis-'))];
  /** @type {Redis | null} */
  let client = null;
  const ask = () => {
    if (client !== null) return client;
    client = new Redis({ port, commandTimeout: ASK_MS, retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on('error', () => {});
    return client;
  };
  const run = () => {
    const child = start('redis-server', [...args, ...own], env);
    child.stdout?.resume();
    child.once('exit', () => {
      client?.disconnect();
      client = null;
    });
    return child;
  };
  let child = run();
  await until('redis-server answers', async () => (await ask().ping()) === 'PONG');
  return {
    port,
    child: () => child,
    client: ask,
    kill: () => end(child),
    async start() {
      child = run();
      // A replica that still loads the data of its master replies LOADING.
      await until(
        'redis-server answers',
        async () =>
          (await ask()
            .ping()
            .catch(() => '')) === 'PONG',
      );
    },
    stop: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  };
}

/** @param {Server} node */
const isMaster = async ({ child, client }) =>
  child().exitCode === null &&
  child().signalCode === null &&
  /role:master/.test(
    await client()
      .info('replication')
      .catch(() => ''),
  );

/** A Sentinel makes a replica of the old master some ten seconds after it has named the new one. */
const FAIL_OVER_MS = 40_000;
/** @param {Server} node */
const inStep = async ({ client }) => /role:slave[\s\S]*master_link_status:up/.test(await client().info('replication'));
/** Refused, for example while the replica is not known to be in step. @param {Promise<unknown>} command */
const obeyed = (command) =>
  command.then(
    () => true,
    () => false,
  );

/** @param {readonly string[]} more @param {import('./types.ts').Environment} [env] @returns {Promise<RedisSet>} */
async function alone(more, env) {
  const node = await startServer([...HOST, ...more], env);
  return {
    state: 'alone',
    nodes: [node],
    sentinels: [],
    holder: async () => node,
    movedFrom: async () => {},
    commandFailOver: async () => {},
  };
}

/** @param {readonly string[]} more @returns {Promise<RedisSet>} */
async function sentinel(more) {
  const args = [...HOST, ...more];
  const master = await startServer(args);
  const nodes = [master, await startServer([...args, '--replicaof', '127.0.0.1', String(master.port)])];
  const sentinels = [];
  for (let i = 0; i < 3; i++) {
    const file = join(scratch, `sentinel-${master.port}-${i}.conf`);
    const lines = [
      'bind 127.0.0.1',
      `sentinel monitor ${NAME} 127.0.0.1 ${master.port} 2`,
      `sentinel down-after-milliseconds ${NAME} 1000`,
      // Two that stand at once may split the votes; twice this later they try again.
      `sentinel failover-timeout ${NAME} 3000`,
    ];
    writeFileSync(file, `${lines.join('\n')}\n`);
    sentinels.push(await startServer([file, '--sentinel']));
  }
  const watch = /** @type {Server} */ (sentinels[0]).client();
  await until('the Sentinels know each other and the replica', async () => {
    const about = /** @type {string[]} */ (await watch.call('SENTINEL', 'MASTER', NAME));
    const said = (/** @type {string} */ name) => Number(about[about.indexOf(name) + 1]);
    return said('num-other-sentinels') === 2 && said('num-slaves') === 1;
  });
  const holder = async () => {
    const [, port] = /** @type {string[]} */ (await watch.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME));
    return /** @type {Server} */ (nodes.find((node) => String(node.port) === port));
  };
  return {
    state: 'sentinel',
    nodes,
    sentinels,
    holder,
    // Refused while the replica is not known to be in step.
    commandFailOver: async () => {
      const old = await holder();
      await until('the Sentinels obey', () => obeyed(watch.call('SENTINEL', 'FAILOVER', NAME)), FAIL_OVER_MS);
      await until('the old master is in step', () => inStep(old), FAIL_OVER_MS);
    },
    movedFrom: (server) =>
      until(
        'the Sentinels have chosen another',
        async () => {
          const now = await holder();
          return now !== server && (await isMaster(now));
        },
        40_000,
      ),
  };
}

/** @param {readonly string[]} more @returns {Promise<RedisSet>} */
async function cluster(more) {
  /** @type {Server[]} */
  const nodes = [];
  const own = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1500'];
  for (let i = 0; i < 6; i++) nodes.push(await startServer([...HOST, ...own, ...more]));
  const [first, second, third] = /** @type {[Server, Server, Server]} */ (/** @type {unknown} */ (nodes));
  const starts = [0, SHARE, 2 * SHARE, SLOTS];
  for (const [index, { client }] of [first, second, third].entries()) {
    await client().call('CLUSTER', 'ADDSLOTSRANGE', starts[index] ?? 0, (starts[index + 1] ?? SLOTS) - 1);
    await client().call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
  }
  const info = async (/** @type {Server} */ { client }) => String(await client().call('CLUSTER', 'INFO'));
  for (const { port } of nodes.slice(1)) await first.client().call('CLUSTER', 'MEET', '127.0.0.1', port);
  for (const node of nodes)
    await until('all nodes know each other', async () => (await info(node)).includes('cluster_known_nodes:6'));
  for (const [index, { client }] of nodes.slice(3).entries()) {
    const id = String(await nodes[index]?.client().call('CLUSTER', 'MYID'));
    await until('the node is a replica', () =>
      client()
        .call('CLUSTER', 'REPLICATE', id)
        .then(
          () => true,
          () => false,
        ),
    );
    await until('the replica is in step', async () => /master_link_status:up/.test(await client().info('replication')));
  }
  for (const node of nodes)
    await until('the cluster is whole', async () => (await info(node)).includes('cluster_state:ok'));
  const both = [second, /** @type {Server} */ (nodes[4])];
  const holder = async () => ((await isMaster(second)) ? second : /** @type {Server} */ (nodes[4]));
  return {
    state: 'cluster',
    nodes,
    sentinels: [],
    holder,
    commandFailOver: async () => {
      const old = await holder();
      const other = /** @type {Server} */ (both.find((each) => each !== old));
      await until('the replica obeys', () => obeyed(other.client().call('CLUSTER', 'FAILOVER')), FAIL_OVER_MS);
      await until('the old master is in step', () => inStep(old), FAIL_OVER_MS);
    },
    movedFrom: (server) =>
      until(
        'the replica has taken over',
        async () => {
          const other = both.find((each) => each !== server);
          return other !== undefined && (await isMaster(other)) && (await info(other)).includes('cluster_state:ok');
        },
        40_000,
      ),
  };
}

/**
 * @param {import('./types.ts').State} state @param {readonly string[]} [more] arguments of redis-server
 * @param {import('./types.ts').Environment} [env] of one that is alone
 */
export function startRedisSet(state, more = [], env = {}) {
  return { alone, sentinel, cluster }[state](more, env);
}
