import { connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { subscribe } from '../../src/adapters/redis/client/pubsub.ts';
import { systemClock } from '../../src/clock.ts';
import type { Log } from '../../src/ports.ts';
import { freePort, redisServer, until } from '../support/redis.ts';

const cleanUps: (() => void)[] = [];
afterEach(() => {
  for (const each of cleanUps.splice(0)) each();
});

/** A way to a server on which subscriptions are lost while it is deaf, and nothing else. */
async function wireTo(server: number) {
  const port = await freePort();
  const sockets = new Set<Socket>();
  const wire = { port, deaf: false, lost: 0, cut: () => sockets.forEach((each) => void each.destroy()) };
  const listening = createServer((caller) => {
    const onward = connect(server, '127.0.0.1');
    for (const each of [caller, onward]) {
      sockets.add(each);
      each
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(each);
          caller.destroy();
          onward.destroy();
        });
    }
    onward.pipe(caller);
    caller.on('data', (chunk) => {
      if (wire.deaf && /subscribe/i.test(String(chunk))) wire.lost += 1;
      else onward.write(chunk);
    });
  });
  await new Promise<void>((resolve) => listening.listen(port, '127.0.0.1', resolve));
  cleanUps.push(() => {
    listening.close();
    wire.cut();
  });
  return wire;
}

test('a subscription that is not answered after a connection was lost ends nothing, and the next connection hears again', async () => {
  await using server = await redisServer();
  const wire = await wireTo(server.port);
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  cleanUps.push(() => void process.off('unhandledRejection', note));
  const failures: string[] = [];
  const log: Log = { debug: (_, message) => void failures.push(message), info() {}, warn() {}, error() {} };
  const servers = { kind: 'alone', host: '127.0.0.1', port: wire.port, db: 0 } as const;
  const settings = { servers, username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 100 };
  const heard: string[] = [];
  let began = 0;
  const close = subscribe({
    ...{ settings, clock: systemClock, log, channel: 'channel' },
    onMessage: (text) => void heard.push(text),
    onSubscribed: () => {
      began += 1;
    },
  });
  cleanUps.push(close);
  await until('it listens', async () => began === 1);
  wire.deaf = true;
  wire.cut();
  await until('the subscription has failed', async () => failures.length > 0 && wire.lost > 0);
  wire.deaf = false;
  wire.cut();
  await until('it listens again', async () => began === 2);
  await server.client().publish('channel', 'something');
  await until('it hears', async () => heard.length > 0);
  expect([heard, unhandled]).toEqual([['something'], []]);
});
