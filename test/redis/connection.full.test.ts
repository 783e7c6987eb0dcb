import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import {
  type ConnectionSettings,
  openRedis,
  type RedisConnection,
} from '../../src/adapters/redis/client/connection.ts';
import { createScript, runScript, runWhole } from '../../src/adapters/redis/client/scripts.ts';
import { systemClock } from '../../src/clock.ts';
import { Secret } from '../../src/secret.ts';
import { redisCertificate } from '../support/certificate-authority.ts';
import { FAIL_OVER_MS, freePort, redisCluster, redisSentinel, redisServer, until } from '../support/redis.ts';

const FAKE_PASSWORD = 'fake-redis-password';

function open(settings: Partial<ConnectionSettings> & Pick<ConnectionSettings, 'servers'>) {
  const lines: string[] = [];
  const note = (fields: unknown, message: string) => void lines.push(`${message} ${String(JSON.stringify(fields))}`);
  const connection: RedisConnection = openRedis({
    settings: { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 100, ...settings },
    clock: systemClock,
    log: { debug: note, info: note, warn: note, error: note },
  });
  return { connection, lines, [Symbol.dispose]: () => connection.close() };
}
const alone = (port: number): ConnectionSettings['servers'] => ({ kind: 'alone', host: '127.0.0.1', port, db: 0 });
const hostAndPort = (address: string) => ({ host: '127.0.0.1', port: Number(address.split(':')[1]) });
const ready = (connection: RedisConnection) => until('ready', async () => connection.isReady());
/** A connection to a server, or to the nodes of a Cluster, that is there. */
async function openTo(set: { readonly port: number } | { readonly addresses: readonly string[] }) {
  const opened = open({
    servers: 'port' in set ? alone(set.port) : { kind: 'cluster', nodes: set.addresses.map(hostAndPort) },
  });
  await ready(opened.connection);
  return opened;
}
const ping = (connection: RedisConnection): Promise<string> => connection.client.ping();

describe('a connection to a single server', () => {
  test('with a password works, and with a wrong one says so without telling it', async () => {
    await using server = await redisServer({ args: ['--requirepass', FAKE_PASSWORD], password: FAKE_PASSWORD });
    using right = open({ servers: alone(server.port), password: new Secret(FAKE_PASSWORD) });
    await ready(right.connection);
    expect(await ping(right.connection)).toBe('PONG');
    using wrong = open({ servers: alone(server.port), password: new Secret('fake-wrong-password') });
    await until('the rejection is logged', async () => wrong.lines.length > 0);
    expect(wrong.connection.isReady()).toBe(false);
    expect([...right.lines, ...wrong.lines].join('\n')).not.toMatch(/fake-/);
  });

  test('over TLS trusts the configured certificate, and no other', async () => {
    const { files, ca, args } = await redisCertificate();
    const other = await redisCertificate();
    await using server = await redisServer({ args, ca });
    const tls = { cert: null, key: null, servername: null };
    using trusting = open({ servers: alone(server.port), tls: { ...tls, ca } });
    await ready(trusting.connection);
    expect(await ping(trusting.connection)).toBe('PONG');
    using wary = open({ servers: alone(server.port), tls: { ...tls, ca: other.ca } });
    await until('the rejection is logged', async () => wary.lines.length > 0);
    expect(wary.connection.isReady()).toBe(false);
    await files[Symbol.asyncDispose]();
    await other.files[Symbol.asyncDispose]();
  });

  test('starts while there is no server, logs that once, and works when there is one', async () => {
    const port = await freePort();
    using opened = open({ servers: alone(port) });
    await until('told', async () => opened.lines.length > 0);
    await expect(ping(opened.connection)).rejects.toThrow();
    await using _server = await redisServer({ port });
    await ready(opened.connection);
    expect(await ping(opened.connection)).toBe('PONG');
    expect(opened.lines).toHaveLength(2);
    expect(opened.lines[1]).toContain('Redis responds again');
  });

  test('that is lost is another epoch before anything can be sent on the next', async () => {
    await using server = await redisServer();
    using opened = open({ servers: alone(server.port) });
    await ready(opened.connection);
    const before = opened.connection.epoch();
    const seen: number[] = [];
    opened.connection.onReady(() => seen.push(opened.connection.epoch()));
    await server.kill();
    await until('lost', async () => !opened.connection.isReady());
    expect(opened.connection.epoch()).toBeGreaterThan(before);
    await expect(ping(opened.connection)).rejects.toThrow();
    await server.start();
    await ready(opened.connection);
    expect(seen[0]).toBeGreaterThan(before);
  });

  test('that hangs lets no command wait longer than its deadline, and keeps the epoch', async () => {
    await using server = await redisServer();
    using opened = open({ servers: alone(server.port) });
    await ready(opened.connection);
    const before = opened.connection.epoch();
    server.stop();
    await expect(ping(opened.connection)).rejects.toThrow('timed out');
    expect(opened.connection.epoch()).toBe(before);
    server.resume();
    await until('it answers again', async () => (await ping(opened.connection).catch(() => '')) === 'PONG');
  });
});

test('a connection by Sentinel follows a fail-over, in another epoch', async () => {
  await using set = await redisSentinel();
  using opened = open({ servers: { kind: 'sentinel', sentinels: set.sentinels.map(hostAndPort), name: set.name } });
  await ready(opened.connection);
  const before = opened.connection.epoch();
  expect(await opened.connection.client.set('k', '1')).toBe('OK');
  await set.master.kill();
  const takenOver = async () => (await opened.connection.client.set('k', '2').catch(() => '')) === 'OK';
  await until('the replica has taken over', takenOver, FAIL_OVER_MS);
  expect(await set.replica.client().get('k')).toBe('2');
  expect(opened.connection.epoch()).toBeGreaterThan(before);
}, 90_000);

test('a connection by Sentinel leaves an old master that goes on, and the Sentinel that names it while it carries the fail-over out', async () => {
  await using set = await redisSentinel();
  // It does not obey: the fail-over waits for it, and only then the first Sentinel names the new master.
  await using _ = await redisServer({
    args: [
      ...['--replicaof', '127.0.0.1', String(set.master.port), '--replica-priority', '0'],
      ...['--rename-command', 'REPLICAOF', 'none', '--rename-command', 'SLAVEOF', 'none2'],
    ],
  });
  const sentinels = set.sentinels.map(hostAndPort);
  const clients = sentinels.map(({ port }) => new Redis({ port }));
  const field = async (sentinel: number, name: string) => {
    const about = (await clients[sentinel]?.call('SENTINEL', 'MASTER', set.name)) as string[];
    return about[about.indexOf(name) + 1];
  };
  const portOf = async ({ client }: RedisConnection) => Number(/tcp_port:(\d+)/.exec(await client.info('server'))?.[1]);
  const servers = { kind: 'sentinel', sentinels, name: set.name } as const;
  using before = open({ servers });
  await ready(before.connection);
  await until('the replica is known', async () => (await field(0, 'num-slaves')) === '2', 25_000);
  await clients[0]?.call('SENTINEL', 'FAILOVER', set.name);
  await until('the others know', async () => (await field(1, 'port')) === String(set.replica.port), FAIL_OVER_MS);
  expect([await field(0, 'port'), await field(0, 'config-epoch')]).toEqual([String(set.master.port), '1']);
  for (let i = 0; i < 5; i++) {
    using during = open({ servers });
    await ready(during.connection);
    expect(await portOf(during.connection)).toBe(set.replica.port);
  }
  await until('it has moved', async () => (await portOf(before.connection).catch(() => 0)) === set.replica.port);
  for (const each of clients) each.disconnect();
}, 90_000);

test('a connection to a Cluster finds the node of a key, and another one when that is gone, in another epoch', async () => {
  await using set = await redisCluster({ replicas: true });
  using opened = open({ servers: { kind: 'cluster', nodes: set.addresses.map(hostAndPort) } });
  await ready(opened.connection);
  const { client } = opened.connection;
  for (const key of ['{a}', '{b}', '{c}']) expect(await client.set(key, '1')).toBe('OK');
  const before = opened.connection.epoch();
  const slot = Number(await set.nodes[0]?.client().call('CLUSTER', 'KEYSLOT', '{a}'));
  const owner = set.nodes[Math.floor((slot * 3) / 16_384)];
  await owner?.kill();
  await until(
    'its replica has taken over',
    async () => (await client.set('{a}', '2').catch(() => '')) === 'OK',
    25_000,
  );
  // A single loss, though the node stays unreachable.
  expect(opened.connection.epoch()).toBe(before + 1);
}, 60_000);

test.each(['alone', 'a Cluster'])(
  'no kind of command waits longer than its deadline for a Redis that hangs: %s',
  async (kind) => {
    await using set = await (kind === 'alone' ? redisServer() : redisCluster());
    const servers = 'nodes' in set ? set.nodes : [set];
    using opened = await openTo(set);
    const { client } = opened.connection;
    const script = createScript("return redis.call('GET', KEYS[1])");
    const commands: Record<string, () => Promise<unknown>> = {
      'a script by its digest': () => runScript(client, script, ['{a}'], []),
      'a script in full': () => runWhole(client, script, ['{a}'], []),
      'a plain one': () => client.get('{a}'),
      'one that publishes': () => client.publish('news', 'x'),
      // To a Cluster the gateway listens by a plain connection to one of its nodes.
      ...(kind === 'alone' && { 'one that listens': () => client.subscribe('news') }),
    };
    for (const server of servers) server.stop();
    for (const [name, send] of Object.entries(commands)) {
      const outcome = send().then(
        () => 'answered',
        () => 'given up',
      );
      let seen = 'waits';
      void outcome.then((came) => {
        seen = came;
      });
      // Long enough for any machine, and far below for ever.
      await until(`${name} has ended`, async () => seen !== 'waits', 5_000);
      expect([name, seen]).toEqual([name, 'given up']);
    }
    for (const server of servers) server.resume();
  },
  60_000,
);
