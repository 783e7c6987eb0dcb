import { connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ConnectionSettings, openRedis } from '../../src/adapters/redis/client/connection.ts';
import { subscribe } from '../../src/adapters/redis/client/pubsub.ts';
import { systemClock } from '../../src/clock.ts';
import { redisSentinel, redisServer, until } from '../support/redis.ts';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

// An unhandled rejection ends a process.
let unhandled: unknown[] = [];
const note = (reason: unknown) => void unhandled.push(reason);
beforeEach(() => {
  unhandled = [];
  process.on('unhandledRejection', note);
});
afterEach(() => void process.off('unhandledRejection', note));

/** Passes on what comes, but asks `onSubscribe` about each SUBSCRIBE: does it get there? */
async function gate(to: number, onSubscribe: (caller: Socket, turn: number) => boolean) {
  let turns = 0;
  const sockets = new Set<Socket>();
  const server = createServer((caller) => {
    const far = connect(to, '127.0.0.1');
    for (const [socket, other] of [
      [caller, far],
      [far, caller],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => other.destroy());
    }
    far.pipe(caller);
    caller.on('data', (chunk) => {
      const asks = /\bsubscribe\r\n/i.test(chunk.toString('latin1'));
      if (asks) turns += 1;
      if (!asks || onSubscribe(caller, turns)) far.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    turns: () => turns,
    disconnect: () => sockets.forEach((socket) => void socket.destroy()),
    /** Resolves when every client has seen that this side is gone, and closed its connection. */
    isLeft: () => [...sockets].every(({ closed }) => closed),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

test('a connection that is lost while it begins to listen again ends nothing, and the next one listens', async () => {
  await using redis = await redisServer();
  await using between = await gate(redis.port, (caller, turn) => {
    if (turn > 1 && turn < 4) caller.destroy();
    return turn === 1 || turn >= 4;
  });
  const settings: ConnectionSettings = {
    username: null,
    password: null,
    sentinelPassword: null,
    tls: null,
    timeoutMs: 100,
    servers: { kind: 'alone', host: '127.0.0.1', port: between.port, db: 0 },
  };
  let times = 0;
  const onSubscribed = () => {
    times += 1;
  };
  const close = subscribe({
    ...{ settings, clock: systemClock, log: quiet, channel: 'news' },
    ...{ onMessage: () => {}, onSubscribed },
  });
  await until('it listens', async () => times === 1);
  between.disconnect();
  await until('it listens again', async () => times === 2);
  expect(between.turns()).toBe(4);
  close();
  expect(unhandled).toEqual([]);
});

test('a lost Sentinel is asked and heard again, though a subscription to it is not answered', async () => {
  await using set = await redisSentinel();
  const [sentinel = ''] = set.sentinels;
  // The first that listens again is not answered.
  await using between = await gate(Number(sentinel.split(':')[1]), (_, turn) => turn !== 2);
  const connection = openRedis({
    settings: {
      ...{ username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 },
      servers: { kind: 'sentinel', sentinels: [{ host: '127.0.0.1', port: between.port }], name: set.name },
    },
    clock: systemClock,
    log: quiet,
  });
  await until('it listens to the Sentinel', async () => connection.isReady() && between.turns() === 1);
  between.disconnect();
  await until('it asks to listen, and is not answered', async () => between.turns() === 2);
  await until('it asks again', async () => between.turns() === 3);
  // The connection to the server is none of the Sentinel's.
  expect(connection.epoch()).toBe(1);
  connection.close();
  expect(unhandled).toEqual([]);
}, 60_000);
