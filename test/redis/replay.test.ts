import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryIdempotencyStore } from '../../src/adapters/memory/idempotency.ts';
import { openRedis, type RedisConnection } from '../../src/adapters/redis/connection.ts';
import { createSharedReplays } from '../../src/adapters/redis/replay.ts';
import type { IdempotencyStore, KeyedWrite, WriteOutcome } from '../../src/idempotency/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

let server: RedisServer;
let connection: RedisConnection;
beforeAll(async () => {
  server = await redisServer();
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const servers = { kind: 'alone', host: '127.0.0.1', port: server.port, db: 0 } as const;
  connection = openRedis({ settings: { servers, ...none }, log: quiet });
  await until('it can ask', async () => connection.isReady());
});
afterAll(async () => {
  connection.close();
  await server[Symbol.asyncDispose]();
});

const DAY = 86_400_000;
let runs = 0;

interface Course {
  readonly store: IdempotencyStore;
  pass(ms: number): Promise<void>;
}

const kinds: Record<string, () => Course> = {
  memory: () => {
    const clock = new ManualClock();
    const store = createMemoryIdempotencyStore({ maxBytes: 1_000_000, ttlMs: DAY, clock });
    return { store, pass: async (ms) => clock.advance(ms) };
  },
  Redis: () => {
    const prefix = `replay${runs++}`;
    const { client, isReady } = connection;
    const store = createSharedReplays({ client, isReady, prefix, keepMs: DAY });
    // Time passes for what is stored: its lease and its end come nearer.
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

const claim = (more: Partial<KeyedWrite> = {}): KeyedWrite => ({
  ...{ account: 'main', id: 'key-of-one', fingerprint: 'body', owner: `owner${runs++}`, leaseMs: 120_000 },
  ...more,
});
const FIRST = { status: 201, headers: ['Content-Type', 'application/json'], body: Buffer.from([0, 255, 10, 13]) };
const ANSWERED: WriteOutcome = { kind: 'answered', first: FIRST };

/** One suite for both: what the stage relies on. */
describe.each(Object.entries(kinds))('what is known of writes, in %s', (_name, open) => {
  test('of many who claim a key at once, one may go', async () => {
    const { store } = open();
    const begun = await Promise.all(Array.from({ length: 20 }, () => store.begin(claim())));
    expect(begun.filter(({ kind }) => kind === 'go')).toHaveLength(1);
    expect(begun.filter(({ kind }) => kind === 'conflict')).toHaveLength(19);
  });

  test('the first answer is given again, to the byte, for a day from when it came', async () => {
    const { store, pass } = open();
    const first = claim();
    await store.begin(first);
    await pass(60_000);
    expect(await store.complete(first, ANSWERED)).toBe(true);
    await pass(DAY - 1_000);
    expect(await store.begin(claim())).toEqual({ kind: 'replay', first: FIRST });
    await pass(1_000);
    expect((await store.begin(claim())).kind).toBe('go');
  });

  test('one without a body is told from one that was too large', async () => {
    const { store } = open();
    for (const [id, body] of [
      ['empty', Buffer.alloc(0)],
      ['large', null],
    ] as const) {
      const first = claim({ id });
      await store.begin(first);
      await store.complete(first, { kind: 'answered', first: { ...FIRST, body } });
      expect(await store.begin(claim({ id }))).toEqual({ kind: 'replay', first: { ...FIRST, body } });
    }
  });

  test('another request with the same key is told so, before and after the answer', async () => {
    const { store } = open();
    const first = claim();
    await store.begin(first);
    expect((await store.begin(claim({ fingerprint: 'other' }))).kind).toBe('mismatch');
    await store.complete(first, ANSWERED);
    expect((await store.begin(claim({ fingerprint: 'other' }))).kind).toBe('mismatch');
  });

  test('what was not carried out is as if it had never been begun', async () => {
    const { store } = open();
    const first = claim();
    await store.begin(first);
    await store.complete(first, { kind: 'released' });
    expect((await store.begin(claim())).kind).toBe('go');
  });

  test('what may have been carried out is never begun again while it is remembered', async () => {
    const { store, pass } = open();
    const first = claim();
    await store.begin(first);
    await store.complete(first, { kind: 'lost' });
    expect((await store.begin(claim())).kind).toBe('unknown');
    await pass(DAY - 1_000);
    expect((await store.begin(claim())).kind).toBe('unknown');
  });

  test('one that never ended reads as unknown after its lease, and its late answer still counts', async () => {
    const { store, pass } = open();
    const first = claim();
    await store.begin(first);
    await pass(119_000);
    expect((await store.begin(claim())).kind).toBe('conflict');
    await pass(1_001);
    expect((await store.begin(claim())).kind).toBe('unknown');
    await store.complete(first, ANSWERED);
    expect((await store.begin(claim())).kind).toBe('replay');
  });

  test('only whoever holds a claim can end it', async () => {
    const { store } = open();
    await store.begin(claim());
    await store.complete(claim(), { kind: 'released' });
    expect((await store.begin(claim())).kind).toBe('conflict');
  });

  test('keys and accounts are apart', async () => {
    const { store } = open();
    await store.begin(claim());
    expect((await store.begin(claim({ id: 'key-of-two' }))).kind).toBe('go');
    expect((await store.begin(claim({ account: 'other' }))).kind).toBe('go');
  });
});

describe('in Redis', () => {
  test('what Redis has forgotten meanwhile is written anew by whoever had claimed it', async () => {
    const store = shared('forgot');
    const first = claim();
    await store.begin(first);
    await server.client().del('forgot:{main}:replay:key-of-one');
    await store.complete(first, ANSWERED);
    expect(await store.begin(claim())).toEqual({ kind: 'replay', first: FIRST });
  });

  const shared = (prefix: string) => {
    const { client, isReady } = connection;
    return createSharedReplays({ client, isReady, prefix, keepMs: DAY });
  };

  test('what can not be read may have been an answer: it is never begun again', async () => {
    const store = shared('broken');
    const redis = server.client();
    const key = 'broken:{main}:replay:key-of-one';
    const first = claim();
    await store.begin(first);
    await store.complete(first, ANSWERED);
    const good = await redis.hgetallBuffer(key);
    const spoil: Record<string, string>[] = [
      { v: '2' },
      { s: 'else' },
      { st: '7' },
      { h: '[' },
      { h: '["a"]' },
      { n: '3' },
    ];
    for (const fields of spoil) {
      await redis.hset(key, fields);
      expect(await store.begin(claim()), JSON.stringify(fields)).toEqual({ kind: 'broken' });
      await redis.hset(key, good);
    }
    expect((await store.begin(claim())).kind).toBe('replay');
    await redis.del(key);
    await redis.set(key, 'not ours', 'PX', 10_000);
    expect((await store.begin(claim())).kind).toBe('broken');
  });

  test('every record has an end, and a hash tag of its account', async () => {
    const store = shared('ends');
    const first = claim();
    await store.begin(first);
    const redis = server.client();
    const key = 'ends:{main}:replay:key-of-one';
    expect(await redis.pttl(key)).toBeGreaterThan(DAY - 10_000);
    await store.complete(first, { kind: 'lost' });
    expect(await redis.pttl(key)).toBeGreaterThan(DAY - 10_000);
  });

  test('without Redis nothing is begun', async () => {
    const { client } = connection;
    const store = createSharedReplays({ client, isReady: () => false, prefix: 'away', keepMs: DAY });
    expect(await store.begin(claim())).toEqual({ kind: 'unavailable' });
  });
});

test('in memory those that ended longest ago make room, those under way never do', async () => {
  const clock = new ManualClock();
  const store = createMemoryIdempotencyStore({ maxBytes: 10_000, ttlMs: DAY, clock });
  await store.begin(claim({ id: 'under way' }));
  for (let i = 0; i < 50; i++) {
    const each = claim({ id: `ended ${i}` });
    await store.begin(each);
    await store.complete(each, { kind: 'answered', first: { ...FIRST, body: Buffer.alloc(500) } });
  }
  expect((await store.begin(claim({ id: 'under way' }))).kind).toBe('conflict');
  expect((await store.begin(claim({ id: 'ended 49' }))).kind).toBe('replay');
  expect((await store.begin(claim({ id: 'ended 0' }))).kind).toBe('go');
});
