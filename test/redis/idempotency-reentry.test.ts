import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openRedis, type RedisConnection } from '../../src/adapters/redis/client/connection.ts';
import {
  createRedisIdempotencyStore,
  type RedisIdempotencyOptions,
  type RedisIdempotencyStore,
} from '../../src/adapters/redis/idempotency/idempotency-store.ts';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { KeyedWrite, WriteOutcome } from '../../src/idempotency/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

const DAY = 86_400_000;
const LOG = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const FIRST = { status: 201, headers: ['Content-Type', 'application/json'], body: Buffer.from('{}') };
const COMPLETED: WriteOutcome = { kind: 'completed', response: FIRST };

interface Place {
  readonly server: RedisServer;
  readonly connection: RedisConnection;
}

/** Two servers, as the old and the new master. */
let [first, second]: [Place, Place] = [] as never;
const places: Place[] = [];
const stores: RedisIdempotencyStore[] = [];

async function place(): Promise<Place> {
  const server = await redisServer();
  const servers = { kind: 'alone', host: '127.0.0.1', port: server.port, db: 0 } as const;
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const connection = openRedis({ settings: { servers, ...none }, clock: systemClock, log: LOG });
  places.push({ server, connection });
  await until('connected', async () => connection.isReady());
  return { server, connection };
}

beforeAll(async () => {
  [first, second] = [await place(), await place()];
});

beforeEach(async () => {
  for (const each of stores.splice(0)) each.stop();
  for (const { server } of places) await server.client().flushall();
});

afterAll(async () => {
  for (const each of stores) each.stop();
  for (const { server, connection } of places) {
    connection.close();
    await server[Symbol.asyncDispose]();
  }
});

interface Replica {
  readonly store: RedisIdempotencyStore;
  /** The server of the moment, as the client of a fail-over has it; null while there is none. */
  at: Place | null;
}

function replica(at: Place, more: Partial<RedisIdempotencyOptions> & { clock?: Clock } = {}): Replica {
  const state: { at: Place | null } = { at };
  const client = new Proxy({} as RedisConnection['client'], {
    get: (_, name: keyof RedisConnection['client']) => {
      const { client: real } = (state.at ?? at).connection;
      return (real[name] as () => unknown).bind(real);
    },
  });
  const store = createRedisIdempotencyStore({
    ...{ client, isReady: () => state.at !== null, prefix: 'p', keepMs: DAY, tenantBytes: 1_000_000 },
    ...{ clock: systemClock, othersComeMs: 0 },
    ...more,
  });
  stores.push(store);
  return Object.assign(state, { store });
}

let owners = 0;
const write = (id: string): KeyedWrite => ({
  ...{ account: 'main', tenant: 'one', id, fingerprint: 'body', owner: `owner${owners++}`, leaseMs: 120_000 },
});

async function carryOut({ store }: Replica, id: string): Promise<void> {
  const each = write(id);
  expect((await store.begin(each)).kind).toBe('first');
  await store.complete(each, COMPLETED);
}

const repeat = async ({ store }: Replica, id: string) => (await store.begin(write(id))).kind;

test('a server that has lost the latest writes is given them by their replica before it begins one for another', async () => {
  const one = replica(first, { othersComeMs: 2_000 });
  const [pending, ended, unknown, released] = ['p', 'e', 'u', 'r'].map(write) as [
    KeyedWrite,
    KeyedWrite,
    KeyedWrite,
    KeyedWrite,
  ];
  for (const each of [pending, ended, unknown, released]) expect((await one.store.begin(each)).kind).toBe('first');
  await one.store.complete(ended, COMPLETED);
  await one.store.complete(unknown, { kind: 'unknown' });
  await one.store.complete(released, { kind: 'released' });
  await first.server.client().flushall();
  // Another replica asks first.
  const { store } = replica(first, { othersComeMs: 2_000 });
  const repeats = await Promise.all(['p', 'e', 'u', 'r'].map((id) => store.begin(write(id))));
  expect(repeats).toEqual([
    { kind: 'conflict' },
    { kind: 'replay', response: FIRST },
    { kind: 'unknown' },
    { kind: 'first' },
  ]);
});

test('many writes are entered, in several commands, each with its outcome of the moment', async () => {
  const one = replica(first);
  const writes = Array.from({ length: 120 }, (_, i) => write(`w${i}`));
  for (const each of writes) expect((await one.store.begin(each)).kind).toBe('first');
  one.at = second;
  one.store.check(['main']);
  // They end while they are entered: one in three is not carried out, one in three not by now.
  for (const [i, each] of writes.entries()) {
    if (i % 3 === 0) await one.store.complete(each, { kind: 'released' });
    if (i % 3 === 1) await one.store.complete(each, COMPLETED);
  }
  const two = replica(second);
  await until('all are there', async () => (await second.server.client().keys('p:*:w*')).length === 80);
  for (const [i, { id }] of writes.entries()) {
    expect(await repeat(two, id), id).toBe(['first', 'replay', 'conflict'][i % 3]);
  }
});

test('a replica that comes late begins nothing that it has begun before', async () => {
  const [one, two] = [replica(first), replica(first)];
  await carryOut(one, 'a');
  await carryOut(two, 'b');
  two.at = second;
  expect(await repeat(two, 'b')).toBe('replay');
  // Open for the others by now.
  await carryOut(two, 'c');
  one.at = second;
  expect(await repeat(one, 'a')).toBe('replay');
});

test('a write that another replica has begun meanwhile keeps its owner and its outcome', async () => {
  const [one, two] = [replica(first), replica(second)];
  const late = write('a');
  await one.store.begin(late);
  const other = { kind: 'completed', response: { ...FIRST, status: 202 } } as const;
  const own = write('a');
  expect((await two.store.begin(own)).kind).toBe('first');
  one.at = second;
  // Entered by a begin of its own, before the other one ends.
  await carryOut(one, 'x');
  await two.store.complete(own, other);
  await one.store.complete(late, COMPLETED);
  one.at = first;
  await carryOut(one, 'y');
  one.at = second;
  await carryOut(one, 'z');
  expect(await two.store.begin(write('a'))).toEqual({ kind: 'replay', response: other.response });
});

test('servers that are used in turn, each beside the other, are given the writes of the other each time', async () => {
  const [one, two] = [replica(first, { othersComeMs: 1_000 }), replica(first, { othersComeMs: 1_000 })];
  for (const [turn, at] of [first, second, first, second].entries()) {
    one.at = at;
    two.at = at;
    // It comes first. The other one comes by itself.
    if (turn > 0) expect(await repeat(two, `one ${turn - 1}`)).toBe('replay');
    await carryOut(one, `one ${turn}`);
    await carryOut(two, `two ${turn}`);
  }
}, 30_000);

test('a server that was a replica for a while is another one, though process and memory are the same', async () => {
  const one = replica(first);
  await carryOut(one, 'a');
  const redis = first.server.client();
  await redis.replicaof('127.0.0.1', 1);
  await redis.replicaof('NO', 'ONE');
  // Not among what the other master had received.
  await redis.del('p:{main}:idempotency:a');
  expect(await repeat(replica(first, { othersComeMs: 2_000 }), 'a')).toBe('replay');
});

test('a clock that was set back closes no server for longer than replicas need', async () => {
  const one = replica(first, { othersComeMs: 50 });
  await carryOut(one, 'a');
  await first.server.client().hset('p:{main}:idempotency:state', 'openAt', Date.now() + DAY);
  await carryOut(one, 'b');
});

test('nothing is forgotten during an outage', async () => {
  const clock = new ManualClock();
  const one = replica(first, { clock });
  const redis = first.server.client();
  const record = async (id: string) => (await redis.exists(`p:{main}:idempotency:${id}`)) === 1;
  await carryOut(one, 'a');
  one.at = null;
  await redis.flushall();
  clock.advance(3_600_000);
  expect(await record('a')).toBe(false);
  one.at = first;
  clock.advance(500);
  await until('it is entered', () => record('a'));
});

test('what has arrived is forgotten after a while', async () => {
  const clock = new ManualClock();
  const one = replica(first, { clock });
  const allHaveReplied = () => first.connection.client.ping();
  await carryOut(one, 'a');
  clock.advance(31_000);
  await allHaveReplied();
  await first.server.client().flushall();
  clock.advance(1_000);
  await allHaveReplied();
  expect(await first.server.client().keys('*')).toEqual([]);
});
