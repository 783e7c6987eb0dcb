import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { LEASE_MS } from '../../src/adapters/redis/cache/account-invalidation.ts';
import { createSharedFlights } from '../../src/adapters/redis/cache/coalescing.ts';
import { createSharedDrops } from '../../src/adapters/redis/cache/invalidation-log.ts';
import { createSharedAnswers, nameOf } from '../../src/adapters/redis/cache/response-store.ts';
import { openRedis } from '../../src/adapters/redis/client/connection.ts';
import { openBus } from '../../src/adapters/redis/client/pubsub.ts';
import { openListener } from '../../src/adapters/redis/client/subscriber.ts';
import type { FetchResultKind } from '../../src/cache/coalescing.ts';
import type { Invalidation } from '../../src/cache/invalidation-log.ts';
import type { Announced } from '../../src/cache/options.ts';
import type { CacheEntry, StoredResponse } from '../../src/cache/store.ts';
import { NEVER_STALE } from '../../src/cache/store.ts';
import { systemClock } from '../../src/clock.ts';
import type { Meter } from '../../src/ports.ts';
import { splitPath } from '../../src/routing/pattern.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisCluster, redisServer, until } from '../support/redis.ts';

let server: RedisServer;
let client: Redis;
beforeAll(async () => {
  server = await redisServer();
  client = new Redis(server.url, { lazyConnect: false });
});
afterAll(async () => {
  client.disconnect();
  await server[Symbol.asyncDispose]();
});

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});
let names = 0;

interface Own {
  readonly prefix: string;
  /** Listens to nobody. */
  readonly deaf?: boolean;
  readonly server?: RedisServer;
  readonly nodes?: readonly { host: string; port: number }[];
}

/** The cache's half of one replica, with a clock of its own. */
async function replica({ prefix, deaf = false, server: own = server, nodes }: Own) {
  const clock = new ManualClock();
  const counted: string[] = [];
  const meter = new Proxy({}, { get: () => (tier: string, outcome: string) => counted.push(`${tier} ${outcome}`) });
  const servers = nodes
    ? ({ kind: 'cluster', nodes } as const)
    : ({ kind: 'alone', host: '127.0.0.1', port: own.port, db: 0 } as const);
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const settings = { servers, ...none };
  const connection = openRedis({ settings, log: quiet });
  const listener = openListener({ settings, clock: systemClock, log: quiet });
  const name = `replica${names++}`;
  const { client: commands, isReady } = connection;
  const bus = openBus({ listener, client: commands, prefix: deaf ? `${prefix}-deaf` : prefix, log: quiet });
  const channel = `${prefix}:cache`;
  const tell = (message: object) => void commands.publish(channel, JSON.stringify(message));
  const heard = deaf ? { ...bus, channel, tell } : bus;
  let bases = 0;
  const drops = createSharedDrops({
    ...{ client: commands, bus: heard, isReady, prefix, replica: name, clock, log: quiet },
    newBase: () => `${name}-${bases++}`,
  });
  const answers = createSharedAnswers({ client: commands, isReady, drops, prefix, clock, meter: meter as Meter });
  const flights = createSharedFlights({ client: commands, isReady, answers, bus, drops, prefix, replica: name, clock });
  const listening = new Promise<void>((resolve) => bus.onListening(resolve));
  await listening;
  await until('it can ask', async () => isReady());
  await drops.follow(['main']);
  closers.push(async () => {
    await drops.stop();
    bus.close();
    connection.close();
  });
  const touched = (path: string, since: number) =>
    !drops.isValidSince('main', { segments: splitPath(path), tags: [] }, since);
  return {
    name,
    clock,
    drops,
    answers,
    flights,
    counted,
    touched,
    connection,
    latest: () => drops.latestWrite('main'),
  };
}

const A: Invalidation = { patterns: [['a', '**']] };
const fresh = () => ({ prefix: `cache${names++}` });

/** Whether a promise is settled once all that is under way in Redis has had its time. */
async function settles(promise: unknown): Promise<boolean> {
  let settled = false;
  void Promise.resolve(promise).then(() => {
    settled = true;
  });
  for (let i = 0; i < 20 && !settled; i++) await client.ping();
  return settled;
}

describe('what one replica drops', () => {
  test('is dropped by every other one before the drop is done', async () => {
    const world = fresh();
    const [one, two, three] = [await replica(world), await replica(world), await replica(world)];
    const before = [two.latest(), three.latest()];
    await one.drops.invalidate('main', A);
    expect([two.touched('/a/1', before[0] ?? 0), three.touched('/a/1', before[1] ?? 0)]).toEqual([true, true]);
    expect(two.touched('/b', before[0] ?? 0)).toBe(false);
    expect(one.touched('/a', 0)).toBe(true);
  });

  test('waits for one that does not hear of it, until that one may no longer serve from memory', async () => {
    const world = fresh();
    const [one, deaf] = [await replica(world), await replica({ ...world, deaf: true })];
    const dropped = one.drops.invalidate('main', A);
    expect(await settles(dropped)).toBe(false);
    expect(deaf.drops.disconnectedSince('main')).toBeNull();
    // The deaf one has asked at the start alone: by then it knows itself out of touch.
    deaf.clock.advance(LEASE_MS);
    expect(deaf.drops.disconnectedSince('main')).not.toBeNull();
    one.clock.advance(LEASE_MS + 100);
    expect(await settles(dropped)).toBe(true);
  });

  test('is found out by one that does not hear of it as soon as it asks, which is every second', async () => {
    const world = fresh();
    const [one, deaf] = [await replica(world), await replica({ ...world, deaf: true })];
    const since = deaf.latest();
    const dropped = one.drops.invalidate('main', A);
    await settles(dropped);
    expect(deaf.touched('/a', since)).toBe(false);
    deaf.clock.advance(1_000);
    await until('it has asked', async () => deaf.touched('/a', since));
    // Its word reaches the one that waits.
    expect(await settles(dropped)).toBe(true);
  });

  test('while Redis is away is told when it is back, and no answer in Redis passes for untouched meanwhile', async () => {
    await using own = await redisServer();
    const world = { ...fresh(), server: own };
    const [one, two] = [await replica(world), await replica(world)];
    const position = one.drops.toShared('main', one.latest()) ?? { base: '', at: -1 };
    const since = two.latest();
    const save = new Redis(own.url);
    await save.save();
    save.disconnect();
    await own.kill();
    await until('it is noticed', async () => !one.connection.isReady());
    await one.drops.invalidate('main', A);
    expect(one.touched('/a', one.drops.toLocal('main', position) ?? -1)).toBe(true);
    await own.start();
    await until('it can ask', async () => one.connection.isReady() && two.connection.isReady());
    one.clock.advance(1_000);
    await until('the other has heard', async () => {
      two.clock.advance(1_000);
      return two.touched('/a', since);
    });
    expect(one.touched('/a', one.drops.toLocal('main', position) ?? -1)).toBe(true);
  });

  test('of a log that Redis has lost is not relied on: everything is dropped, on all replicas', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const position = one.drops.toShared('main', one.latest());
    const since = [one.latest(), two.latest()];
    const keys = await client.keys(`${world.prefix}*`);
    await client.del(...keys);
    one.clock.advance(1_000);
    two.clock.advance(1_000);
    await until('both have asked', async () => one.touched('/b', since[0] ?? 0) && two.touched('/b', since[1] ?? 0));
    expect(one.drops.toLocal('main', position ?? { base: '', at: 0 })).toBeNull();
  });

  test('of a log that has gone back to an older state is not relied on either', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const log = `${world.prefix}:{main}:cache:drops`;
    const old = await client.dumpBuffer(log);
    await one.drops.invalidate('main', A);
    const since = two.latest();
    await client.restore(log, 0, old ?? Buffer.alloc(0), 'REPLACE');
    one.clock.advance(1_000);
    two.clock.advance(1_000);
    await until('both begin anew', async () => one.touched('/b', 0) && two.touched('/b', since));
  });

  test('long ago is known to a replica that comes later, as far as it is kept', async () => {
    const world = fresh();
    const one = await replica(world);
    const position = one.drops.toShared('main', one.latest()) ?? { base: '', at: -1 };
    await one.drops.invalidate('main', A);
    await one.drops.invalidate('main', { patterns: [['b']] });
    const late = await replica(world);
    const since = late.drops.toLocal('main', position) ?? -1;
    expect([late.touched('/a/1', since), late.touched('/b', since), late.touched('/c', since)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(late.drops.toLocal('main', { base: 'another', at: 1 })).toBeNull();
  });

  test('is not waited for from one that has left', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await two.drops.stop();
    expect(await settles(one.drops.invalidate('main', A))).toBe(true);
  });

  test('many at a time from several replicas is dropped everywhere, in any order', async () => {
    const world = fresh();
    const all = [await replica(world), await replica(world), await replica(world)];
    const since = all.map((each) => each.latest());
    const dropped = Array.from({ length: 60 }, (_, i) =>
      all[i % 3]?.drops.invalidate('main', { patterns: [[`p${i}`]] }),
    );
    await Promise.all(dropped);
    for (const [n, each] of all.entries()) {
      for (let i = 0; i < 60; i++) expect(each.touched(`/p${i}`, since[n] ?? 0)).toBe(true);
      expect(each.touched('/none', since[n] ?? 0)).toBe(false);
    }
  });

  test('that can not be read drops everything; messages of others on the channel are ignored', async () => {
    const world = fresh();
    const one = await replica(world);
    const since = one.latest();
    for (const text of [
      '',
      'null',
      '{}',
      '{"kind":"drop"}',
      '{"kind":"dropped","account":"main","base":1,"at":2,"by":3}',
    ]) {
      await client.publish(`${world.prefix}:cache`, text);
    }
    const log = `${world.prefix}:{main}:cache:drops`;
    await client.hset(log, 'v', 1, 'd:1', 'nonsense');
    one.clock.advance(1_000);
    await until('it has asked', async () => one.touched('/anything', since));
  });
});

const KEY = 'main\nscope\ncore\n/a\n\napplication/json';
type Replica = Awaited<ReturnType<typeof replica>>;

function answerOf({ clock, latest }: Replica, more: Partial<StoredResponse> = {}): StoredResponse {
  return {
    ...{
      kind: 'response',
      status: 200,
      headers: ['Content-Type', 'application/json'],
      body: Buffer.from('{"data":[]}'),
    },
    ...{ generatedEtag: '"pg-x"', tags: ['t'], stale: NEVER_STALE, initialAgeMs: 0, freshForMs: 30_000 },
    ...{
      storedAt: clock.now(),
      receivedAt: clock.monotonic(),
      requestedAt: clock.monotonic(),
      validUpToWrite: latest(),
    },
    ...more,
  };
}

function answerIn(found: { readonly entry: CacheEntry } | undefined): StoredResponse {
  if (found?.entry.kind !== 'response') throw new Error('no answer');
  return found.entry;
}

async function stored(one: Replica, entry: CacheEntry, keepMs = 30_000): Promise<void> {
  one.answers.set(KEY, entry, keepMs);
  await one.answers.written();
}

describe('an answer in Redis', () => {
  test('is the same for every replica, and as old as it is', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const entry = answerOf(one, { initialAgeMs: 7_000 });
    one.clock.advance(500);
    await stored(one, entry, 29_500);
    // Ten seconds pass for Redis.
    await client.pexpire(nameOf(world.prefix, KEY), 19_500);
    const found = await two.answers.get(KEY);
    const { receivedAt, requestedAt, validUpToWrite, ...same } = answerIn(found);
    expect(entry).toMatchObject(same);
    expect(two.clock.monotonic() - receivedAt).toBeGreaterThanOrEqual(10_500);
    expect(two.clock.monotonic() - receivedAt).toBeLessThan(11_000);
    expect([requestedAt <= receivedAt, found?.keepMs, validUpToWrite]).toEqual([
      true,
      expect.any(Number),
      two.latest(),
    ]);
  });

  test('is compressed where it pays, and never kept without an end', async () => {
    const one = await replica(fresh());
    const large = Buffer.from(JSON.stringify({ data: Array.from({ length: 500 }, (_, id) => ({ id, name: 'same' })) }));
    for (const [body, headers, packs] of [
      [large, [], true],
      [large, ['Content-Encoding', 'br'], false],
      [Buffer.from('small'), [], false],
    ] as const) {
      await stored(one, answerOf(one, { body, headers: [...headers] }));
      const name =
        (await client.keys('*:cache:a:*')).find((each) => each === nameOf(each.split(':')[0] ?? '', KEY)) ?? '';
      const size = await client.strlen(name);
      expect(size < body.length).toBe(packs);
      expect(await client.pttl(name)).toBeGreaterThan(0);
      expect(answerIn(await one.answers.get(KEY)).body).toEqual(body);
      await client.del(name);
    }
  });

  test('that a drop has touched since it was asked for is known for that on every replica', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const entry = answerOf(one);
    await two.drops.invalidate('main', A);
    await stored(one, entry);
    const found = answerIn(await two.answers.get(KEY));
    expect(two.touched('/a', found.validUpToWrite)).toBe(true);
    expect(two.touched('/b', found.validUpToWrite)).toBe(false);
  });

  test('that varies leaves its signpost', async () => {
    const one = await replica(fresh());
    await stored(one, { kind: 'vary', fields: ['accept-language'] });
    expect((await one.answers.get(KEY))?.entry).toEqual({ kind: 'vary', fields: ['accept-language'] });
  });

  test('that is truncated, flipped, older, of another key or none of ours is as if it were not there, and counted', async () => {
    const world = fresh();
    const one = await replica(world);
    await stored(one, answerOf(one, { body: Buffer.alloc(3_000, 'x') }));
    const name = nameOf(world.prefix, KEY);
    const good = (await client.getBuffer(name)) ?? Buffer.alloc(0);
    const flipped = (at: number): Buffer => {
      const bytes = Buffer.from(good);
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      return bytes;
    };
    const broken: Buffer[] = [
      ...[0, 3, 11, 12, 40, good.length - 1].map((length) => good.subarray(0, length)),
      ...[0, 3, 5, 9, 13, good.length - 1].map(flipped),
      Buffer.concat([good, Buffer.from('x')]),
      Buffer.from('{"status":200}'),
      Buffer.alloc(100_000, 0xff),
    ];
    one.counted.length = 0;
    for (const bytes of broken) {
      await client.set(name, bytes, 'PX', 10_000);
      expect(await one.answers.get(KEY)).toBeUndefined();
    }
    expect(one.counted).toEqual(Array(broken.length).fill('redis broken'));
    await client.del(name);
    await client.hset(name, 'not', 'a string');
    expect(await one.answers.get(KEY)).toBeUndefined();
    expect(one.counted.at(-1)).toBe('redis failed');
    await client.del(name);
    await client.set(name, good, 'PX', 10_000);
    expect(await one.answers.get(KEY)).toBeDefined();
    // Without an end it is none of ours.
    await client.persist(name);
    expect(await one.answers.get(KEY)).toBeUndefined();
  });

  test('leaves the last fifth of the memory of Redis to the quota', async () => {
    await using own = await redisServer();
    const one = await replica({ ...fresh(), server: own });
    const admin = own.client();
    const store = async () => {
      one.counted.length = 0;
      await stored(one, answerOf(one));
      return one.counted;
    };
    expect(await store()).toEqual(['redis store']);
    const used = Number(/^used_memory:(\d+)/m.exec(await admin.info('memory'))?.[1]);
    await admin.config('SET', 'maxmemory', Math.ceil(used * 1.1));
    // It is looked at every few seconds; the look itself holds nobody up.
    const looked = async (outcome: string) =>
      until(outcome, async () => {
        one.clock.advance(1_000);
        await one.drops.follow(['main']);
        return (await store())[0] === outcome;
      });
    await looked('redis skip');
    await admin.config('SET', 'maxmemory', used * 10);
    await looked('redis store');
  });

  test('is not asked for by a replica that is out of touch', async () => {
    const one = await replica(fresh());
    await stored(one, answerOf(one));
    one.clock.advance(LEASE_MS);
    expect(await one.answers.get(KEY)).toBeUndefined();
  });

  test('names no credential and no tenant', async () => {
    const world = fresh();
    const one = await replica(world);
    await stored(one, answerOf(one));
    const text = String(await client.getBuffer(nameOf(world.prefix, KEY)));
    expect(text).not.toMatch(/authorization|api-key|tenant|billing/i);
  });
});

const landingOf = (boarded: Announced) => (boarded.kind === 'theirs' ? boarded.result : null);

describe('a flight of one replica', () => {
  const never = new Promise<FetchResultKind>(() => {});

  test('is waited for by the others until it has landed, and the answer is there by then', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    let land: (how: FetchResultKind) => void = () => {};
    expect(await one.flights.announce(KEY, one.latest(), new Promise((resolve) => (land = resolve)))).toMatchObject({
      kind: 'ours',
    });
    const boarded = await two.flights.announce(KEY, two.latest(), never);
    one.answers.set(KEY, answerOf(one, { body: Buffer.alloc(200_000, 'y') }), 30_000);
    land('stored');
    expect(await landingOf(boarded)).toBe('stored');
    expect(await two.answers.get(KEY)).toBeDefined();
    // Whoever looked a moment too early is told to look again.
    const late = await two.flights.announce(KEY, two.latest(), Promise.resolve('unshareable'));
    expect(late).toEqual({ kind: 'ours', stored: true });
  });

  test('is taken for given up when its replica says nothing any more', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await one.flights.announce(KEY, one.latest(), never);
    const boarded = await two.flights.announce(KEY, two.latest(), never);
    const [mark] = await client.keys(`${world.prefix}*:f:*`);
    expect(await client.pttl(mark ?? '')).toBeGreaterThan(0);
    await client.del(mark ?? '');
    two.clock.advance(500);
    expect(await landingOf(boarded)).toBe('cancelled');
  });

  test('is kept known for as long as it takes', async () => {
    const world = fresh();
    const one = await replica(world);
    await one.flights.announce(KEY, one.latest(), never);
    const [mark = ''] = await client.keys(`${world.prefix}*:f:*`);
    await client.pexpire(mark, 100);
    one.clock.advance(1_000);
    await until('it is kept', async () => (await client.pttl(mark)) > 1_000);
  });

  test('from before a write is not waited for by those who ask after it', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await one.flights.announce(KEY, one.latest(), never);
    await one.drops.invalidate('main', A);
    expect(await two.flights.announce(KEY, two.latest(), never)).toMatchObject({ kind: 'ours' });
  });

  test("is nobody else's business when Redis is away", async () => {
    await using own = await redisServer();
    const one = await replica({ ...fresh(), server: own });
    await own.kill();
    await until('it is noticed', async () => !one.connection.isReady());
    expect(await one.flights.announce(KEY, one.latest(), never)).toMatchObject({ kind: 'ours' });
  });
});

test('on a Cluster all of it works alike', async () => {
  await using cluster = await redisCluster();
  const world = { ...fresh(), nodes: cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port })) };
  const [one, two] = [await replica(world), await replica(world)];
  const since = two.latest();
  await one.drops.invalidate('main', A);
  expect(two.touched('/a', since)).toBe(true);
  await stored(one, answerOf(one));
  expect(await two.answers.get(KEY)).toBeDefined();
  expect(await one.flights.announce(KEY, one.latest(), Promise.resolve('unshareable'))).toMatchObject({ kind: 'ours' });
}, 60_000);

test('a listener of a Cluster comes back when the node it listens to, or all of them, were gone', async () => {
  await using cluster = await redisCluster();
  const nodes = cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const settings = { servers: { kind: 'cluster', nodes }, ...none } as const;
  const listener = openListener({ settings, clock: systemClock, log: quiet });
  const heard: string[] = [];
  let began = 0;
  listener.listen('news', { message: (text) => void heard.push(text), began: () => void began++ });
  const hears = (text: string) =>
    until(`it hears ${text}`, async () => {
      // A Cluster that is coming back refuses for a moment.
      await cluster.nodes[1]
        ?.client()
        .publish('news', text)
        .catch(() => {});
      return heard.includes(text);
    });
  await hears('one');
  await cluster.nodes[0]?.kill();
  await hears('two');
  for (const node of cluster.nodes) await node.kill();
  for (const node of cluster.nodes) await node.start();
  await hears('three');
  expect(began).toBeGreaterThanOrEqual(3);
  listener.close();
}, 60_000);
