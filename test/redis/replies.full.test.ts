import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ConnectionSettings, openRedis } from '../../src/adapters/redis/client/connection.ts';
import { subscribe } from '../../src/adapters/redis/client/pubsub.ts';
import { systemClock } from '../../src/clock.ts';
import { freePort, redisSentinel, redisServer, until } from '../support/redis.ts';
import { wayTo } from '../support/redis-way.ts';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const settingsOf = (servers: ConnectionSettings['servers']): ConnectionSettings => ({
  ...{ servers, username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 100 },
});
const alone = (port: number) => settingsOf({ kind: 'alone', host: '127.0.0.1', port, db: 0 });

// Either of them ends a process.
let ends: unknown[] = [];
const note = (reason: unknown) => void ends.push(reason);
beforeEach(() => {
  ends = [];
  process.on('uncaughtException', note).on('unhandledRejection', note);
});
afterEach(() => {
  process.off('uncaughtException', note).off('unhandledRejection', note);
  expect(ends).toEqual([]);
});

/** Replies that no command has asked for, and messages that are none. */
const UNEXPECTED = {
  'a null': '_\r\n',
  'a null of the older protocol': '$-1\r\n',
  'a text': '+OK\r\n',
  'an error': '-ERR max number of clients reached\r\n',
  'a list': '*2\r\n:1\r\n_\r\n',
  'a push without a kind': '>1\r\n_\r\n',
  'a message without a channel': '>3\r\n$7\r\nmessage\r\n_\r\n$1\r\nx\r\n',
  'a subscription that was not asked for': '>3\r\n$9\r\nsubscribe\r\n_\r\n:1\r\n',
  'bytes of another protocol': 'HTTP/1.1 400 Bad Request\r\n\r\n',
};

describe.each(Object.entries(UNEXPECTED))('%s that nothing has asked for', (_, bytes) => {
  test('on a connection for commands, it is lost, and another takes its place', async () => {
    await using server = await redisServer();
    await using way = await wayTo(server.port);
    const connection = openRedis({ settings: alone(way.port), clock: systemClock, log: quiet });
    await until('ready', async () => connection.isReady());
    const before = connection.epoch();
    way.inject(bytes);
    await until('another', async () => connection.epoch() > before && connection.isReady());
    expect(await connection.client.ping()).toBe('PONG');
    connection.close();
  });

  test('on a subscription, messages go on arriving on another connection', async () => {
    await using server = await redisServer();
    await using way = await wayTo(server.port);
    let times = 0;
    const heard: string[] = [];
    const close = subscribe({
      ...{ settings: alone(way.port), clock: systemClock, log: quiet, channel: 'news' },
      onMessage: (text) => void heard.push(text),
      onSubscribed: () => {
        times += 1;
      },
    });
    await until('it listens', async () => times === 1);
    way.inject(bytes);
    await until('it listens again', async () => times === 2);
    await server.client().publish('news', 'later');
    await until('it hears', async () => heard.includes('later'));
    close();
  });
});

test('on the connections to a Sentinel, each is made again', async () => {
  await using set = await redisSentinel();
  await using way = await wayTo(Number(set.sentinels[0]?.split(':')[1]));
  const servers = { kind: 'sentinel', sentinels: [{ host: '127.0.0.1', port: way.port }], name: set.name } as const;
  const connection = openRedis({ settings: settingsOf(servers), clock: systemClock, log: quiet });
  await until('ready', async () => connection.isReady());
  for (const bytes of Object.values(UNEXPECTED)) {
    const made = way.made();
    way.inject(bytes);
    await until('the Sentinel is asked on another connection', async () => way.made() > made && way.open() === 1);
  }
  expect(await connection.client.ping()).toBe('PONG');
  expect(connection.epoch()).toBe(1);
  connection.close();
}, 60_000);

test('on the connections to a node of a Cluster, each is made again', async () => {
  const port = await freePort();
  await using way = await wayTo(port);
  // The node says that it is found by this way.
  const announced = ['--cluster-announce-ip', '127.0.0.1', '--cluster-announce-port', String(way.port)];
  await using server = await redisServer({ port, args: ['--cluster-enabled', 'yes', ...announced] });
  await server.client().call('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383);
  await until('it is whole', async () => /state:ok/.test(String(await server.client().call('CLUSTER', 'INFO'))));
  const nodes = [{ host: '127.0.0.1', port: way.port }];
  const connection = openRedis({ settings: settingsOf({ kind: 'cluster', nodes }), clock: systemClock, log: quiet });
  const responds = async () => (await connection.client.get('{a}').catch(() => '')) === null;
  await until('ready', responds);
  for (const bytes of Object.values(UNEXPECTED)) {
    const before = connection.epoch();
    way.inject(bytes);
    await until('another', async () => connection.epoch() > before && (await responds()));
  }
  const before = connection.epoch();
  way.lose();
  await until('another, when packets vanish', async () => connection.epoch() > before && (await responds()), 5_000);
  connection.close();
}, 60_000);

describe('a way on which packets vanish while connections stay open', () => {
  test('is found by a connection for commands, a subscription and one that is idle, each of which is made again', async () => {
    await using server = await redisServer();
    await using way = await wayTo(server.port);
    const idle = openRedis({ settings: alone(way.port), clock: systemClock, log: quiet });
    let times = 0;
    const close = subscribe({
      ...{ settings: alone(way.port), clock: systemClock, log: quiet, channel: 'news' },
      onMessage: () => {},
      onSubscribed: () => {
        times += 1;
      },
    });
    await until('both are ready', async () => idle.isReady() && times === 1);
    way.lose();
    await until('both are made again', async () => times === 2 && idle.epoch() === 2 && idle.isReady(), 5_000);
    expect(idle.fault()?.reason).toBe('no reply for 2 s');
    idle.close();
    close();
  });

  test('to a Sentinel is found too', async () => {
    await using set = await redisSentinel();
    await using way = await wayTo(Number(set.sentinels[0]?.split(':')[1]));
    const servers = { kind: 'sentinel', sentinels: [{ host: '127.0.0.1', port: way.port }], name: set.name } as const;
    const connection = openRedis({ settings: settingsOf(servers), clock: systemClock, log: quiet });
    await until('ready', async () => connection.isReady());
    const made = way.made();
    way.lose();
    await until('the Sentinel is asked on another connection', async () => way.made() > made, 5_000);
    connection.close();
  }, 60_000);
});
