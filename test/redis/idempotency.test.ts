import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryIdempotencyStore } from '../../src/adapters/memory/idempotency.ts';
import { openRedis, type RedisConnection } from '../../src/adapters/redis/client/connection.ts';
import { createRedisIdempotencyStore } from '../../src/adapters/redis/idempotency/idempotency-store.ts';
import { systemClock } from '../../src/clock.ts';
import type { IdempotencyStore, KeyedWrite, WriteOutcome } from '../../src/idempotency/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

const TIMEOUT_MS = 1_000;

let server: RedisServer;
let connection: RedisConnection;
beforeAll(async () => {
  server = await redisServer();
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: TIMEOUT_MS };
  const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const servers = { kind: 'alone', host: '127.0.0.1', port: server.port, db: 0 } as const;
  connection = openRedis({ settings: { servers, ...none }, clock: systemClock, log: quiet });
  await until('connected', async () => connection.isReady());
});
afterAll(async () => {
  connection.close();
  await server[Symbol.asyncDispose]();
});

const DAY = 86_400_000;
let runs = 0;

interface TestStore {
  readonly store: IdempotencyStore;
  pass(ms: number): Promise<void>;
}

const kinds: Record<string, () => TestStore> = {
  memory: () => {
    const clock = new ManualClock();
    const store = createMemoryIdempotencyStore({ maxBytes: 1_000_000, ttlMs: DAY, clock });
    return { store, pass: async (ms) => clock.advance(ms) };
  },
  Redis: () => {
    const prefix = `replay${runs++}`;
    const { client, isReady } = connection;
    const store = createRedisIdempotencyStore({ client, isReady, prefix, keepMs: DAY });
    // Moves the lease and the expiry of each record instead of the clock.
    const pass = async (ms: number) => {
      for (const key of await server.client().keys(`${prefix}:*`)) {
        const [until, left] = [await server.client().hget(key, 'u'), await server.client().pttl(key)];
        await server.client().hset(key, 'u', Number(until) - ms);
        await server.client().pexpire(key, left - ms);
      }
    };
    return { store, pass };
  },
};

const write = (more: Partial<KeyedWrite> = {}): KeyedWrite => ({
  ...{ account: 'main', id: 'key-of-one', fingerprint: 'body', owner: `owner${runs++}`, leaseMs: 120_000 },
  ...more,
});
const FIRST = { status: 201, headers: ['Content-Type', 'application/json'], body: Buffer.from([0, 255, 10, 13]) };
const COMPLETED: WriteOutcome = { kind: 'completed', response: FIRST };

/** The contract of the port, for both stores. */
describe.each(Object.entries(kinds))('keyed writes in %s', (_name, open) => {
  test('of many concurrent writes with one key, one is the first', async () => {
    const { store } = open();
    const results = await Promise.all(Array.from({ length: 20 }, () => store.begin(write())));
    expect(results.filter(({ kind }) => kind === 'first')).toHaveLength(1);
    expect(results.filter(({ kind }) => kind === 'conflict')).toHaveLength(19);
  });

  test('a write that its owner begins again, because the first reply was lost, is still the first', async () => {
    const { store } = open();
    const first = write();
    expect([(await store.begin(first)).kind, (await store.begin(first)).kind]).toEqual(['first', 'first']);
    expect((await store.begin(write())).kind).toBe('conflict');
    await store.complete(first, COMPLETED);
    expect((await store.begin(first)).kind).toBe('replay');
  });

  test('the first response is replayed, byte for byte, for its ttl', async () => {
    const { store, pass } = open();
    const first = write();
    await store.begin(first);
    await pass(60_000);
    expect(await store.complete(first, COMPLETED)).toBe(true);
    await pass(DAY - 1_000);
    expect(await store.begin(write())).toEqual({ kind: 'replay', response: FIRST });
    await pass(1_000);
    expect((await store.begin(write())).kind).toBe('first');
  });

  test('an empty body differs from one that was too large', async () => {
    const { store } = open();
    for (const [id, body] of [
      ['empty', Buffer.alloc(0)],
      ['large', null],
    ] as const) {
      const first = write({ id });
      await store.begin(first);
      await store.complete(first, { kind: 'completed', response: { ...FIRST, body } });
      expect(await store.begin(write({ id }))).toEqual({ kind: 'replay', response: { ...FIRST, body } });
    }
  });

  test('another request with the same key is a mismatch, before and after the response', async () => {
    const { store } = open();
    const first = write();
    await store.begin(first);
    expect((await store.begin(write({ fingerprint: 'other' }))).kind).toBe('mismatch');
    await store.complete(first, COMPLETED);
    expect((await store.begin(write({ fingerprint: 'other' }))).kind).toBe('mismatch');
  });

  test('a released write leaves no record', async () => {
    const { store } = open();
    const first = write();
    await store.begin(first);
    await store.complete(first, { kind: 'released' });
    expect((await store.begin(write())).kind).toBe('first');
  });

  test('a write with unknown outcome is never begun again while its record lasts', async () => {
    const { store, pass } = open();
    const first = write();
    await store.begin(first);
    await store.complete(first, { kind: 'unknown' });
    expect((await store.begin(write())).kind).toBe('unknown');
    await pass(DAY - 1_000);
    expect((await store.begin(write())).kind).toBe('unknown');
  });

  test('a write that never ended is unknown after its lease, and its late response still counts', async () => {
    const { store, pass } = open();
    const first = write();
    await store.begin(first);
    await pass(119_000);
    expect((await store.begin(write())).kind).toBe('conflict');
    await pass(1_001);
    expect((await store.begin(write())).kind).toBe('unknown');
    await store.complete(first, COMPLETED);
    expect((await store.begin(write())).kind).toBe('replay');
  });

  test('only its owner can complete a write', async () => {
    const { store } = open();
    await store.begin(write());
    await store.complete(write(), { kind: 'released' });
    expect((await store.begin(write())).kind).toBe('conflict');
  });

  test('keys and accounts are independent', async () => {
    const { store } = open();
    await store.begin(write());
    expect((await store.begin(write({ id: 'key-of-two' }))).kind).toBe('first');
    expect((await store.begin(write({ account: 'other' }))).kind).toBe('first');
  });
});

describe('in Redis', () => {
  test('a record that Redis has lost is written again by its owner', async () => {
    const store = shared('forgot');
    const first = write();
    await store.begin(first);
    await server.client().del('forgot:{main}:idempotency:key-of-one');
    await store.complete(first, COMPLETED);
    expect(await store.begin(write())).toEqual({ kind: 'replay', response: FIRST });
  });

  const shared = (prefix: string) => {
    const { client, isReady } = connection;
    return createRedisIdempotencyStore({ client, isReady, prefix, keepMs: DAY });
  };

  test('a write whose record cannot be read is never begun again', async () => {
    const store = shared('broken');
    const redis = server.client();
    const key = 'broken:{main}:idempotency:key-of-one';
    const first = write();
    await store.begin(first);
    await store.complete(first, COMPLETED);
    const good = await redis.hgetallBuffer(key);
    const spoil: Record<string, string>[] = [
      { v: '1' },
      { s: 'else' },
      { st: '7' },
      { h: '[' },
      { h: '["a"]' },
      { n: '3' },
    ];
    for (const fields of spoil) {
      await redis.hset(key, fields);
      expect(await store.begin(write()), JSON.stringify(fields)).toEqual({ kind: 'broken' });
      await redis.hset(key, good);
    }
    expect((await store.begin(write())).kind).toBe('replay');
    await redis.del(key);
    await redis.set(key, 'not ours', 'PX', 10_000);
    expect((await store.begin(write())).kind).toBe('broken');
  });

  test('a write is begun although the process stood still for longer than the deadline of its command', async () => {
    const store = shared('paused');
    // The script is known to the server: one command begins the write.
    await store.begin(write({ id: 'another' }));
    const begun = store.begin(write());
    await new Promise((resolve) => setImmediate(resolve));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, TIMEOUT_MS + 100);
    expect((await begun).kind).toBe('first');
  });

  test('every record has an end, and a hash tag of its account', async () => {
    const store = shared('ends');
    const first = write();
    await store.begin(first);
    const redis = server.client();
    const key = 'ends:{main}:idempotency:key-of-one';
    expect(await redis.pttl(key)).toBeGreaterThan(DAY - 10_000);
    await store.complete(first, { kind: 'unknown' });
    expect(await redis.pttl(key)).toBeGreaterThan(DAY - 10_000);
  });

  test('without Redis no write is begun', async () => {
    const { client } = connection;
    const store = createRedisIdempotencyStore({ client, isReady: () => false, prefix: 'away', keepMs: DAY });
    expect(await store.begin(write())).toEqual({ kind: 'unavailable' });
  });
});

test('in memory, the oldest ended writes are evicted, pending ones never', async () => {
  const clock = new ManualClock();
  const store = createMemoryIdempotencyStore({ maxBytes: 10_000, ttlMs: DAY, clock });
  await store.begin(write({ id: 'pending' }));
  for (let i = 0; i < 50; i++) {
    const each = write({ id: `ended ${i}` });
    await store.begin(each);
    await store.complete(each, { kind: 'completed', response: { ...FIRST, body: Buffer.alloc(500) } });
  }
  expect((await store.begin(write({ id: 'pending' }))).kind).toBe('conflict');
  expect((await store.begin(write({ id: 'ended 49' }))).kind).toBe('replay');
  expect((await store.begin(write({ id: 'ended 0' }))).kind).toBe('first');
});
