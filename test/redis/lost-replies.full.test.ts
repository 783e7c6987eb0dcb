import { expect, test } from 'vitest';
import { openRedis } from '../../src/adapters/redis/client/connection.ts';
import { createScript, runScript, runWhole } from '../../src/adapters/redis/client/scripts.ts';
import { createRedisIdempotencyStore } from '../../src/adapters/redis/idempotency/idempotency-store.ts';
import { systemClock } from '../../src/clock.ts';
import type { KeyedWrite } from '../../src/idempotency/store.ts';
import { BILLING_KEY } from '../support/gateway.ts';
import { startGateway } from '../support/gateway-process.ts';
import { redisServer, until } from '../support/redis.ts';
import { redisProxy } from '../support/redis-proxy.ts';

// Found by the fuzzer (test/trust/fuzz.full.test.ts): every command got the reply of another one, and keyed writes were 503 for good.
test.each([
  ['is missing', ''],
  ['has lost its end, and swallows the next one', ':1x'],
])('a reply that %s costs its connection, and keyed writes go on', async (_, instead) => {
  await using redis = await redisServer();
  await using proxy = await redisProxy(redis.port);
  await using running = await startGateway({ redis: { url: proxy.url, timeout: '1s' } });
  let turn = 0;
  const write = async (): Promise<number> => {
    const headers = { 'X-API-Key': BILLING_KEY, 'Idempotency-Key': `key-${++turn}`, Prefer: 'wait=10' };
    const response = await fetch(`${running.url}/api/v1/flows/1/start`, { method: 'POST', body: '{}', headers });
    await response.arrayBuffer();
    return response.status;
  };
  await until('a write succeeds', async () => (await write()) === 200);
  let altered = 0;
  proxy.alter((reply) => (altered++ === 0 ? instead : reply));
  await until('a reply is lost', async () => altered > 0);
  await until('ten writes in a row succeed', async () => {
    for (let i = 0; i < 10; i++) if ((await write()) !== 200) return false;
    return true;
  });
});

/** A connection that loses the reply to one command: from then on each command gets the reply to the one after it. */
async function losingOne() {
  const redis = await redisServer();
  const proxy = await redisProxy(redis.port);
  const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const servers = { kind: 'alone', host: '127.0.0.1', port: Number(new URL(proxy.url).port), db: 0 } as const;
  const none = { username: null, password: null, sentinelPassword: null, tls: null };
  const settings = { servers, ...none, timeoutMs: 500 };
  const connection = openRedis({ settings, clock: systemClock, log: quiet });
  await until('ready', async () => connection.isReady());
  return {
    connection,
    loseOne(): void {
      proxy.alter((reply) => reply.replace('$4\r\nlost\r\n', ''));
      connection.client.echo('lost').catch(() => {});
    },
    async [Symbol.asyncDispose]() {
      connection.close();
      await proxy[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}

test('after a lost reply, no keyed write gets the response to another, nor passes for the first', async () => {
  await using losing = await losingOne();
  const { client, isReady } = losing.connection;
  const store = createRedisIdempotencyStore({
    ...{ client, isReady, prefix: 'test', keepMs: 60_000, tenantBytes: 1_000_000 },
    ...{ clock: systemClock, othersComeMs: 0 },
  });
  const writeOf = (id: string): KeyedWrite => ({
    account: 'main',
    tenant: 'one',
    id,
    fingerprint: 'same',
    owner: id,
    leaseMs: 60_000,
  });
  const [done, fresh] = [writeOf('done'), writeOf('fresh')];
  await store.begin(done);
  const response = { status: 200, headers: [], body: Buffer.from('of another tenant') };
  await store.complete(done, { kind: 'completed', response });
  losing.loseOne();
  const [ofFresh, , ofDone] = await Promise.all(
    [fresh, writeOf('done'), writeOf('done'), fresh].map((write) => store.begin(write)),
  );
  expect(['first', 'unavailable']).toContain(ofFresh?.kind);
  expect(['replay', 'unavailable']).toContain(ofDone?.kind);
  store.stop();
});

test.each([
  ['by its digest', runScript],
  ['in full', runWhole],
])('after a lost reply, no script believes the reply to another: %s', async (_, run) => {
  await using losing = await losingOne();
  const { client } = losing.connection;
  const echo = createScript('return ARGV[1]');
  // Redis knows it from here on.
  expect(String(await run(client, echo, ['{a}'], ['x']))).toBe('x');
  losing.loseOne();
  const sent = ['a', 'b', 'c'];
  const outcomes = await Promise.allSettled(sent.map((text) => run(client, echo, ['{a}'], [text])));
  expect(outcomes.map((outcome) => (outcome.status === 'fulfilled' ? String(outcome.value) : 'rejected'))).toEqual(
    sent.map(() => 'rejected'),
  );
});
