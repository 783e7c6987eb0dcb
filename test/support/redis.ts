import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  pid(): number;
  /** A plain client for the test itself; closed with the server. */
  client(): Redis;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again on the same port; it is empty unless it persists its data. */
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT: a server that hangs, with its connections open. */
  stop(): void;
  resume(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface RedisServerOptions {
  readonly port?: number;
  /** More arguments of redis-server. */
  readonly args?: readonly string[];
  /** For the test's own client. */
  readonly password?: string;
  /** For the test's own client: TLS with this certificate trusted. */
  readonly ca?: string;
}

/**
 * Below the ports that a system gives to clients and to `listen(0)`: another test would get the port before its server has it. The port
 * of a Cluster's node that is 10,000 higher is below them too.
 */
const [LOWEST_PORT, HIGHEST_PORT] = [11_000, 21_000];

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const port = LOWEST_PORT + Math.floor(Math.random() * (HIGHEST_PORT - LOWEST_PORT));
  const server = createServer();
  const isFree = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (!isFree) return freePort();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A real redis-server as a child, in a folder of its own; keeps nothing on disk unless asked. Dispose of it: `await using`. */
export async function redisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  const port = options.port ?? (await freePort());
  const dir = await mkdtemp(join(tmpdir(), 'patchgate-redis-'));
  const clients: Redis[] = [];
  let child: ChildProcess | null = null;
  const connect = (): Redis => {
    const client = new Redis({
      port,
      host: '127.0.0.1',
      ...(options.password !== undefined && { password: options.password }),
      ...(options.ca !== undefined && { tls: { ca: options.ca } }),
      retryStrategy: () => 50,
      maxRetriesPerRequest: null,
    });
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  const start = async (): Promise<void> => {
    const listening = options.ca === undefined ? ['--port', String(port)] : ['--port', '0', '--tls-port', String(port)];
    const args = [...listening, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no'];
    child = spawn('redis-server', [...args, ...(options.args ?? [])], { stdio: 'ignore' });
    const failed = new Promise<never>((_, reject) => child?.once('error', reject));
    const probe = connect();
    await Promise.race([probe.ping(), failed, tooLate('redis-server does not answer')]);
    probe.disconnect();
  };
  const kill = async (): Promise<void> => {
    if (child !== null) await ended(child);
  };
  await start();
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    pid: () => child?.pid ?? 0,
    client: connect,
    kill,
    start,
    stop: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.disconnect();
      child?.kill('SIGCONT');
      await kill();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function tooLate(what: string): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(what)), 10_000).unref();
  });
}

export interface SentinelSet {
  readonly sentinels: readonly string[];
  readonly name: string;
  readonly master: RedisServer;
  readonly replica: RedisServer;
  /** kill -9 of one of the Sentinels: the other two go on. */
  loseSentinel(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Long enough for a second and a third election, should the first be a tie. */
export const FAIL_OVER_MS = 40_000;

/** A master, a replica and three Sentinels that take a second to find the master gone. */
export async function redisSentinel(): Promise<SentinelSet> {
  const master = await redisServer();
  const replica = await redisServer({ args: ['--replicaof', '127.0.0.1', String(master.port)] });
  const dir = await mkdtemp(join(tmpdir(), 'patchgate-sentinel-'));
  const children: ChildProcess[] = [];
  const ports: number[] = [];
  for (let i = 0; i < 3; i++) {
    const port = await freePort();
    const file = join(dir, `${port}.conf`);
    const lines = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor mymaster 127.0.0.1 ${master.port} 2`,
      'sentinel down-after-milliseconds mymaster 1000',
      // Two that stand at once may split the votes; twice this later they try again.
      'sentinel failover-timeout mymaster 3000',
    ];
    await writeFile(file, `${lines.join('\n')}\n`);
    children.push(spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' }));
    ports.push(port);
  }
  const probe = master.client();
  await until('the replica is in step', async () => /slave0:.*state=online/.test(await probe.info('replication')));
  const watcher = new Redis({ port: ports[0] as number, retryStrategy: () => 50, maxRetriesPerRequest: null });
  watcher.on('error', () => {});
  await until('the Sentinels know each other', async () => {
    const about = (await watcher.call('SENTINEL', 'MASTER', 'mymaster')) as string[];
    const said = (name: string): number => Number(about[about.indexOf(name) + 1]);
    return said('num-other-sentinels') === 2 && said('num-slaves') === 1;
  });
  watcher.disconnect();
  return {
    sentinels: ports.map((port) => `127.0.0.1:${port}`),
    name: 'mymaster',
    master,
    replica,
    loseSentinel: () => ended(children[0] as ChildProcess),
    async [Symbol.asyncDispose]() {
      await Promise.all(children.map(ended));
      await master[Symbol.asyncDispose]();
      await replica[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export interface ClusterSet {
  readonly nodes: readonly RedisServer[];
  readonly addresses: readonly string[];
  [Symbol.asyncDispose](): Promise<void>;
}

const SLOTS = 16_384;

/** Three masters, each with a third of the slots, and a replica of each if asked. */
export async function redisCluster({ replicas = false } = {}): Promise<ClusterSet> {
  const args = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1500', '--repl-diskless-sync-delay', '0'];
  const nodes = await Promise.all(Array.from({ length: replicas ? 6 : 3 }, () => redisServer({ args })));
  const clients = nodes.map((node) => node.client());
  const masters = clients.slice(0, 3);
  for (const [index, client] of masters.entries()) {
    const from = Math.floor((SLOTS * index) / 3);
    const to = Math.floor((SLOTS * (index + 1)) / 3) - 1;
    await client.call('CLUSTER', 'ADDSLOTSRANGE', from, to);
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
  }
  for (const node of nodes.slice(1)) await masters[0]?.call('CLUSTER', 'MEET', '127.0.0.1', node.port);
  for (const client of clients) {
    await until('all nodes know each other', async () =>
      String(await client.call('CLUSTER', 'INFO')).includes(`cluster_known_nodes:${nodes.length}`),
    );
  }
  for (const [index, client] of clients.slice(3).entries()) {
    const master = String(await masters[index]?.call('CLUSTER', 'MYID'));
    await until('the node is a replica', async () => {
      const reply = await client.call('CLUSTER', 'REPLICATE', master).catch((error: Error) => error);
      return !(reply instanceof Error);
    });
    await until('the replica is in step', async () => /master_link_status:up/.test(await client.info('replication')));
  }
  for (const client of clients) {
    await until('the cluster is whole', async () =>
      String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
    );
  }
  return {
    nodes,
    addresses: nodes.map(({ port }) => `127.0.0.1:${port}`),
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    },
  };
}

/** Polls with real time: servers have no other. */
export async function until(what: string, condition: () => Promise<boolean>, withinMs = 15_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not happen within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
}
