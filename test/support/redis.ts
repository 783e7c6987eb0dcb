import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
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
  /** Starts it again on the same port; empty, unless it was told to keep what it has. */
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
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
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
      retryStrategy: () => 50,
      maxRetriesPerRequest: null,
    });
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  const start = async (): Promise<void> => {
    const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no'];
    child = spawn('redis-server', [...args, ...(options.args ?? [])], { stdio: 'ignore' });
    const failed = new Promise<never>((_, reject) => child?.once('error', reject));
    const probe = connect();
    await Promise.race([probe.ping(), failed, tooLate('redis-server does not answer')]);
    probe.disconnect();
  };
  const kill = async (): Promise<void> => {
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child?.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
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
