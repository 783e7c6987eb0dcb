import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryIdempotencyStore } from '../../src/adapters/memory/idempotency.ts';
import { openRedis, type RedisConnection } from '../../src/adapters/redis/client/connection.ts';
import { createRedisIdempotencyStore } from '../../src/adapters/redis/idempotency/idempotency-store.ts';
import { systemClock } from '../../src/clock.ts';
import type { IdempotencyStore, KeyedWrite, RecordedResponse, WriteOutcome } from '../../src/idempotency/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';
import { wayTo } from '../support/redis-way.ts';

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
const OPTIONS = { keepMs: DAY, tenantBytes: 1_000_000, clock: systemClock, othersComeMs: 0 };
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
    const store = createRedisIdempotencyStore({ ...OPTIONS, client, isReady, prefix });
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
  ...{
    account: 'main',
    tenant: 'one',
    id: 'key-of-one',
    fingerprint: 'body',
    owner: `owner${runs++}`,
    leaseMs: 120_000,
  },
  ...more,
});
const FIRST = { status: 201, headers: ['Content-Type', 'application/json'], body: Buffer.from([0, 255, 10, 13]) };
const COMPLETED: WriteOutcome = { kind: 'completed', response: FIRST };

async function end(store: IdempotencyStore, first: KeyedWrite, bytes: number): Promise<void> {
  expect((await store.begin(first)).kind).toBe('first');
  await store.complete(first, { kind: 'completed', response: { ...FIRST, body: Buffer.alloc(bytes) } });
}

async function repeat(store: IdempotencyStore, id: string, tenant: string): Promise<RecordedResponse> {
  const repeated = await store.begin(write({ id, tenant }));
  if (repeated.kind !== 'replay') throw new Error(`${repeated.kind} instead of a replay`);
  return repeated.response;
}

/** Bytes of the body that a repeat of this write gets, once it has ended: null where it was not kept. */
async function kept(store: IdempotencyStore, id: string, tenant: string, bytes: number): Promise<number | null> {
  await end(store, write({ id, tenant }), bytes);
  const response = await repeat(store, id, tenant);
  expect([response.status, response.headers]).toEqual([FIRST.status, FIRST.headers]);
  return response.body?.length ?? null;
}

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

  test('a tenant that floods keeps the status of each write, and takes nothing of another', async () => {
    const { store } = open();
    const flood = Array.from({ length: 50 }, (_, i) => write({ id: `greedy ${i}`, tenant: 'greedy' }));
    expect(await kept(store, 'before', 'modest', 200_000)).toBe(200_000);
    for (const each of flood) await end(store, each, 100_000);
    expect(await kept(store, 'after', 'modest', 200_000)).toBe(200_000);
    for (const id of ['before', 'after']) {
      expect(await repeat(store, id, 'modest')).toMatchObject({ status: 201, body: { length: 200_000 } });
    }
    const repeats = [];
    for (const { id } of flood) repeats.push(await repeat(store, id, 'greedy'));
    expect(repeats.map(({ status }) => status)).toEqual(flood.map(() => 201));
    const whole = repeats.filter(({ body }) => body !== null);
    expect(whole.length).toBeGreaterThanOrEqual(5);
    expect(whole.length).toBeLessThanOrEqual(10);
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

  const shared = (prefix: string, othersComeMs = 0) => {
    const { client, isReady } = connection;
    return createRedisIdempotencyStore({ ...OPTIONS, client, isReady, prefix, othersComeMs });
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

  /** While Redis uses this part of its `maxmemory`. */
  const whenUsed = async (part: number, run: () => Promise<void>) => {
    const redis = server.client();
    const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
    await redis.config('SET', 'maxmemory', Math.round(used / part));
    try {
      await run();
    } finally {
      await redis.config('SET', 'maxmemory', 0);
    }
  };

  test('above 80 % of maxmemory, status and headers are kept, and a body again when there is room', async () => {
    const store = shared('nearly');
    await whenUsed(0.82, async () => {
      expect(await kept(store, 'a', 'one', 10)).toBeNull();
      // Without a body, status and headers are the whole response.
      expect(await kept(store, 'empty', 'one', 0)).toBe(0);
    });
    expect(await kept(store, 'b', 'one', 10)).toBe(10);
  });

  test('a full Redis begins no write, and records the outcome of one that has begun', async () => {
    const store = shared('full');
    const first = write();
    await store.begin(first);
    await whenUsed(1.1, async () => {
      expect((await store.begin(write({ id: 'another' }))).kind).toBe('unavailable');
      expect(await store.complete(first, COMPLETED)).toBe(true);
    });
    expect(await store.begin(write())).toEqual({ kind: 'replay', response: { ...FIRST, body: null } });
  });

  test('a reply that belongs to another write is not taken for that of this one', async () => {
    await using way = await wayTo(server.port);
    const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: TIMEOUT_MS };
    const servers = { kind: 'alone', host: '127.0.0.1', port: way.port, db: 0 } as const;
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const through = openRedis({ settings: { servers, ...none }, clock: systemClock, log });
    await until('connected', async () => through.isReady());
    const { client, isReady } = through;
    const store = createRedisIdempotencyStore({ ...OPTIONS, client, isReady, prefix: 'mixed' });
    // The script is known to the server, and the state to the store.
    await store.begin(write({ id: 'another' }));
    server.stop();
    const begun = store.begin(write());
    await new Promise((resolve) => setImmediate(resolve));
    const words = ['replay', 'state', 'another owner', '200', '[]', '3', 'foo'];
    way.inject(`*7\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`);
    server.resume();
    // The connection is given up as soon as the reply too many is found.
    expect(['first', 'unavailable']).toContain((await begun).kind);
    store.stop();
    through.close();
  });

  test('without Redis no write is begun', async () => {
    const { client } = connection;
    const store = createRedisIdempotencyStore({ ...OPTIONS, client, isReady: () => false, prefix: 'away' });
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

test('in memory, a tenant that floods evicts its own writes, the oldest first', async () => {
  const store: IdempotencyStore = createMemoryIdempotencyStore({
    maxBytes: 100_000,
    ttlMs: DAY,
    clock: new ManualClock(),
  });
  const finish = async (id: string, tenant: string) => {
    const first = write({ id, tenant });
    await store.begin(first);
    await store.complete(first, { kind: 'unknown' });
  };
  const kindOf = async (id: string, tenant: string) => (await store.begin(write({ id, tenant }))).kind;
  for (let i = 0; i < 50; i++) await finish(`modest ${i}`, 'modest');
  for (let i = 0; i < 500; i++) await finish(`greedy ${i}`, 'greedy');
  for (let i = 0; i < 50; i++) expect(await kindOf(`modest ${i}`, 'modest')).toBe('unknown');
  expect([await kindOf('greedy 499', 'greedy'), await kindOf('greedy 0', 'greedy')]).toEqual(['unknown', 'first']);
});
