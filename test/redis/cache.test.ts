import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { LEASE_MS } from '../../src/adapters/redis/cache/account-invalidation.ts';
import { createRedisCoalescing } from '../../src/adapters/redis/cache/coalescing.ts';
import { createSharedInvalidationLog } from '../../src/adapters/redis/cache/invalidation-log.ts';
import { createSharedResponses, nameOf } from '../../src/adapters/redis/cache/response-store.ts';
import { openRedis } from '../../src/adapters/redis/client/connection.ts';
import { openPubSub, subscribe } from '../../src/adapters/redis/client/pubsub.ts';
import type { FetchResultKind } from '../../src/cache/coalescing.ts';
import type { Announced } from '../../src/cache/options.ts';
import { type CacheEntry, type Invalidation, NEVER_STALE, type StoredResponse } from '../../src/cache/store.ts';
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
  /** Receives no messages. */
  readonly unsubscribed?: boolean;
  readonly server?: RedisServer;
  readonly nodes?: readonly { host: string; port: number }[];
}

/** The cache's half of one replica, with a clock of its own. */
async function replica({ prefix, unsubscribed = false, server: own = server, nodes }: Own) {
  const clock = new ManualClock();
  const counted: string[] = [];
  const meter = new Proxy({}, { get: () => (tier: string, outcome: string) => counted.push(`${tier} ${outcome}`) });
  const servers = nodes
    ? ({ kind: 'cluster', nodes } as const)
    : ({ kind: 'alone', host: '127.0.0.1', port: own.port, db: 0 } as const);
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const settings = { servers, ...none };
  const connection = openRedis({ settings, clock: systemClock, log: quiet });
  const name = `replica${names++}`;
  const { client: commands, isReady } = connection;
  const pubsub = openPubSub({
    ...{ settings, client: commands, clock: systemClock, log: quiet },
    prefix: unsubscribed ? `${prefix}-unsubscribed` : prefix,
  });
  const channel = `${prefix}:cache`;
  const publish = (message: object) => void commands.publish(channel, JSON.stringify(message));
  const heard = unsubscribed ? { ...pubsub, channel, publish } : pubsub;
  let logs = 0;
  const invalidations = createSharedInvalidationLog({
    ...{ client: commands, pubsub: heard, isReady, prefix, replica: name, clock, log: quiet },
    newLogName: () => `${name}-${logs++}`,
  });
  const responses = createSharedResponses({
    client: commands,
    isReady,
    invalidations,
    prefix,
    clock,
    meter: meter as Meter,
  });
  const coalescing = createRedisCoalescing({
    ...{ client: commands, isReady, responses, pubsub, invalidations, prefix, replica: name, clock },
  });
  await new Promise<void>((resolve) => pubsub.onSubscribed(resolve));
  await until('it can ask', async () => isReady());
  await invalidations.follow(['main']);
  closers.push(async () => {
    await invalidations.stop();
    pubsub.close();
    connection.close();
  });
  const isInvalid = (path: string, since: number) =>
    !invalidations.isValidSince('main', { segments: splitPath(path), tags: [] }, since);
  return {
    name,
    clock,
    invalidations,
    responses,
    coalescing,
    counted,
    isInvalid,
    connection,
    latest: () => invalidations.latestWrite('main'),
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

describe('an invalidation by one replica', () => {
  test('has taken effect on every other replica before it is complete', async () => {
    const world = fresh();
    const [one, two, three] = [await replica(world), await replica(world), await replica(world)];
    const before = [two.latest(), three.latest()];
    await one.invalidations.invalidate('main', A);
    expect([two.isInvalid('/a/1', before[0] ?? 0), three.isInvalid('/a/1', before[1] ?? 0)]).toEqual([true, true]);
    expect(two.isInvalid('/b', before[0] ?? 0)).toBe(false);
    expect(one.isInvalid('/a', 0)).toBe(true);
  });

  test('waits for a replica without messages, until that one may no longer serve from memory', async () => {
    const world = fresh();
    const [one, unsubscribed] = [await replica(world), await replica({ ...world, unsubscribed: true })];
    const invalidated = one.invalidations.invalidate('main', A);
    expect(await settles(invalidated)).toBe(false);
    expect(unsubscribed.invalidations.disconnectedSince('main')).toBeNull();
    // Without messages it has read the log at its start alone: by then it is disconnected.
    unsubscribed.clock.advance(LEASE_MS);
    expect(unsubscribed.invalidations.disconnectedSince('main')).not.toBeNull();
    one.clock.advance(LEASE_MS + 100);
    expect(await settles(invalidated)).toBe(true);
  });

  test('reaches a replica without messages at its next read, within a second', async () => {
    const world = fresh();
    const [one, unsubscribed] = [await replica(world), await replica({ ...world, unsubscribed: true })];
    const since = unsubscribed.latest();
    const invalidated = one.invalidations.invalidate('main', A);
    await settles(invalidated);
    expect(unsubscribed.isInvalid('/a', since)).toBe(false);
    unsubscribed.clock.advance(1_000);
    await until('it has asked', async () => unsubscribed.isInvalid('/a', since));
    // Its confirmation reaches the replica that waits.
    expect(await settles(invalidated)).toBe(true);
  });

  test('during an outage of Redis is sent after it, and no stored response passes for valid meanwhile', async () => {
    await using own = await redisServer();
    const world = { ...fresh(), server: own };
    const [one, two] = [await replica(world), await replica(world)];
    const position = one.invalidations.toShared('main', one.latest()) ?? { log: '', at: -1 };
    const since = two.latest();
    const save = new Redis(own.url);
    await save.save();
    save.disconnect();
    await own.kill();
    await until('it is noticed', async () => !one.connection.isReady());
    await one.invalidations.invalidate('main', A);
    expect(one.isInvalid('/a', one.invalidations.toLocal('main', position) ?? -1)).toBe(true);
    await own.start();
    await until('it can ask', async () => one.connection.isReady() && two.connection.isReady());
    one.clock.advance(1_000);
    await until('the other has heard', async () => {
      two.clock.advance(1_000);
      return two.isInvalid('/a', since);
    });
    expect(one.isInvalid('/a', one.invalidations.toLocal('main', position) ?? -1)).toBe(true);
  });

  test('in a log that Redis has lost invalidates everything, on all replicas', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const position = one.invalidations.toShared('main', one.latest());
    const since = [one.latest(), two.latest()];
    const keys = await client.keys(`${world.prefix}*`);
    await client.del(...keys);
    one.clock.advance(1_000);
    two.clock.advance(1_000);
    await until(
      'both have asked',
      async () => one.isInvalid('/b', since[0] ?? 0) && two.isInvalid('/b', since[1] ?? 0),
    );
    expect(one.invalidations.toLocal('main', position ?? { log: '', at: 0 })).toBeNull();
  });

  test('in a log that is restored to an older state invalidates everything too', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const log = `${world.prefix}:{main}:cache:invalidations`;
    const old = await client.dumpBuffer(log);
    await one.invalidations.invalidate('main', A);
    const since = two.latest();
    await client.restore(log, 0, old ?? Buffer.alloc(0), 'REPLACE');
    one.clock.advance(1_000);
    two.clock.advance(1_000);
    await until('both begin anew', async () => one.isInvalid('/b', 0) && two.isInvalid('/b', since));
  });

  test('from before a replica has joined is known to it', async () => {
    const world = fresh();
    const one = await replica(world);
    const position = one.invalidations.toShared('main', one.latest()) ?? { log: '', at: -1 };
    await one.invalidations.invalidate('main', A);
    await one.invalidations.invalidate('main', { patterns: [['b']] });
    const late = await replica(world);
    const since = late.invalidations.toLocal('main', position) ?? -1;
    expect([late.isInvalid('/a/1', since), late.isInvalid('/b', since), late.isInvalid('/c', since)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(late.invalidations.toLocal('main', { log: 'another', at: 1 })).toBeNull();
  });

  test('does not wait for a replica that has left', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await two.invalidations.stop();
    expect(await settles(one.invalidations.invalidate('main', A))).toBe(true);
  });

  test('is effective everywhere when many come at a time from several replicas', async () => {
    const world = fresh();
    const all = [await replica(world), await replica(world), await replica(world)];
    const since = all.map((each) => each.latest());
    const invalidated = Array.from({ length: 60 }, (_, i) =>
      all[i % 3]?.invalidations.invalidate('main', { patterns: [[`p${i}`]] }),
    );
    await Promise.all(invalidated);
    for (const [n, each] of all.entries()) {
      for (let i = 0; i < 60; i++) expect(each.isInvalid(`/p${i}`, since[n] ?? 0)).toBe(true);
      expect(each.isInvalid('/none', since[n] ?? 0)).toBe(false);
    }
  });

  test('that is unreadable invalidates everything; messages of other programs are ignored', async () => {
    const world = fresh();
    const one = await replica(world);
    const since = one.latest();
    for (const text of [
      '',
      'null',
      '{}',
      '{"kind":"invalidation"}',
      '{"kind":"invalidated","account":"main","log":1,"at":2,"by":3}',
    ]) {
      await client.publish(`${world.prefix}:cache`, text);
    }
    const log = `${world.prefix}:{main}:cache:invalidations`;
    await client.hset(log, 'latest', 1, 'entry:1', 'nonsense');
    one.clock.advance(1_000);
    await until('it has asked', async () => one.isInvalid('/anything', since));
  });
});

const KEY = 'main\nscope\ncore\n/a\n\napplication/json';
type Replica = Awaited<ReturnType<typeof replica>>;

function responseOf({ clock, latest }: Replica, more: Partial<StoredResponse> = {}): StoredResponse {
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

function responseIn(found: { readonly entry: CacheEntry } | undefined): StoredResponse {
  if (found?.entry.kind !== 'response') throw new Error('no response');
  return found.entry;
}

async function stored(one: Replica, entry: CacheEntry, keepMs = 30_000): Promise<void> {
  one.responses.set(KEY, entry, keepMs);
  await one.responses.written();
}

describe('a stored response in Redis', () => {
  test('is the same for every replica, with its true age', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const entry = responseOf(one, { initialAgeMs: 7_000 });
    one.clock.advance(500);
    await stored(one, entry, 29_500);
    // Ten seconds pass for Redis.
    await client.pexpire(nameOf(world.prefix, KEY), 19_500);
    const found = await two.responses.get(KEY);
    const { receivedAt, requestedAt, validUpToWrite, ...same } = responseIn(found);
    expect(entry).toMatchObject(same);
    expect(two.clock.monotonic() - receivedAt).toBeGreaterThanOrEqual(10_500);
    expect(two.clock.monotonic() - receivedAt).toBeLessThan(11_000);
    expect([requestedAt <= receivedAt, found?.keepMs, validUpToWrite]).toEqual([
      true,
      expect.any(Number),
      two.latest(),
    ]);
  });

  test('is compressed where that saves memory, and always expires', async () => {
    const one = await replica(fresh());
    const large = Buffer.from(JSON.stringify({ data: Array.from({ length: 500 }, (_, id) => ({ id, name: 'same' })) }));
    for (const [body, headers, packs] of [
      [large, [], true],
      [large, ['Content-Encoding', 'br'], false],
      [Buffer.from('small'), [], false],
    ] as const) {
      await stored(one, responseOf(one, { body, headers: [...headers] }));
      const name =
        (await client.keys('*:cache:response:*')).find((each) => each === nameOf(each.split(':')[0] ?? '', KEY)) ?? '';
      const size = await client.strlen(name);
      expect(size < body.length).toBe(packs);
      expect(await client.pttl(name)).toBeGreaterThan(0);
      expect(responseIn(await one.responses.get(KEY)).body).toEqual(body);
      await client.del(name);
    }
  });

  test('that was invalidated since it was fetched is invalid on every replica', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    const entry = responseOf(one);
    await two.invalidations.invalidate('main', A);
    await stored(one, entry);
    const found = responseIn(await two.responses.get(KEY));
    expect(two.isInvalid('/a', found.validUpToWrite)).toBe(true);
    expect(two.isInvalid('/b', found.validUpToWrite)).toBe(false);
  });

  test('that varies has an entry that names the headers', async () => {
    const one = await replica(fresh());
    await stored(one, { kind: 'vary', fields: ['accept-language'] });
    expect((await one.responses.get(KEY))?.entry).toEqual({ kind: 'vary', fields: ['accept-language'] });
  });

  test('that is truncated, damaged, older, of another key or of another program is a miss, and counted', async () => {
    const world = fresh();
    const one = await replica(world);
    await stored(one, responseOf(one, { body: Buffer.alloc(3_000, 'x') }));
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
      expect(await one.responses.get(KEY)).toBeUndefined();
    }
    expect(one.counted).toEqual(Array(broken.length).fill('redis broken'));
    await client.del(name);
    await client.hset(name, 'not', 'a string');
    expect(await one.responses.get(KEY)).toBeUndefined();
    expect(one.counted.at(-1)).toBe('redis failed');
    await client.del(name);
    await client.set(name, good, 'PX', 10_000);
    expect(await one.responses.get(KEY)).toBeDefined();
    // A response of the gateway always expires.
    await client.persist(name);
    expect(await one.responses.get(KEY)).toBeUndefined();
  });

  test('leaves the last fifth of the memory of Redis to the quota', async () => {
    await using own = await redisServer();
    const one = await replica({ ...fresh(), server: own });
    const admin = own.client();
    const store = async () => {
      one.counted.length = 0;
      await stored(one, responseOf(one));
      return one.counted;
    };
    expect(await store()).toEqual(['redis store']);
    const used = Number(/^used_memory:(\d+)/m.exec(await admin.info('memory'))?.[1]);
    await admin.config('SET', 'maxmemory', Math.ceil(used * 1.1));
    // It is read every few seconds, in the background.
    const looked = async (outcome: string) =>
      until(outcome, async () => {
        one.clock.advance(1_000);
        await one.invalidations.follow(['main']);
        return (await store())[0] === outcome;
      });
    await looked('redis skip');
    await admin.config('SET', 'maxmemory', used * 10);
    await looked('redis store');
  });

  test('is not read by a disconnected replica', async () => {
    const one = await replica(fresh());
    await stored(one, responseOf(one));
    one.clock.advance(LEASE_MS);
    expect(await one.responses.get(KEY)).toBeUndefined();
  });

  test('contains no credential and no tenant', async () => {
    const world = fresh();
    const one = await replica(world);
    await stored(one, responseOf(one));
    const text = String(await client.getBuffer(nameOf(world.prefix, KEY)));
    expect(text).not.toMatch(/authorization|api-key|tenant|billing/i);
  });
});

const resultOf = (announced: Announced) => (announced.kind === 'theirs' ? announced.result : null);

describe('an in-flight fetch of one replica', () => {
  const never = new Promise<FetchResultKind>(() => {});

  test('is waited for by the others until it has ended, and the response is stored by then', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    let finish: (how: FetchResultKind) => void = () => {};
    expect(
      await one.coalescing.announce(KEY, one.latest(), new Promise((resolve) => (finish = resolve))),
    ).toMatchObject({
      kind: 'ours',
    });
    const announced = await two.coalescing.announce(KEY, two.latest(), never);
    one.responses.set(KEY, responseOf(one, { body: Buffer.alloc(200_000, 'y') }), 30_000);
    finish('stored');
    expect(await resultOf(announced)).toBe('stored');
    expect(await two.responses.get(KEY)).toBeDefined();
    // A replica that looked a moment too early looks again.
    const late = await two.coalescing.announce(KEY, two.latest(), Promise.resolve('unshareable'));
    expect(late).toEqual({ kind: 'ours', stored: true });
  });

  test('is cancelled for those who wait when its replica is gone', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await one.coalescing.announce(KEY, one.latest(), never);
    const announced = await two.coalescing.announce(KEY, two.latest(), never);
    const [mark] = await client.keys(`${world.prefix}*:cache:fetch:*`);
    expect(await client.pttl(mark ?? '')).toBeGreaterThan(0);
    await client.del(mark ?? '');
    two.clock.advance(500);
    expect(await resultOf(announced)).toBe('cancelled');
  });

  test('is extended for as long as it takes', async () => {
    const world = fresh();
    const one = await replica(world);
    await one.coalescing.announce(KEY, one.latest(), never);
    const [mark = ''] = await client.keys(`${world.prefix}*:cache:fetch:*`);
    await client.pexpire(mark, 100);
    one.clock.advance(1_000);
    await until('it is kept', async () => (await client.pttl(mark)) > 1_000);
  });

  test('from before a write is not joined by a request after it', async () => {
    const world = fresh();
    const [one, two] = [await replica(world), await replica(world)];
    await one.coalescing.announce(KEY, one.latest(), never);
    await one.invalidations.invalidate('main', A);
    expect(await two.coalescing.announce(KEY, two.latest(), never)).toMatchObject({ kind: 'ours' });
  });

  test('stays in its replica while Redis is away', async () => {
    await using own = await redisServer();
    const one = await replica({ ...fresh(), server: own });
    await own.kill();
    await until('it is noticed', async () => !one.connection.isReady());
    expect(await one.coalescing.announce(KEY, one.latest(), never)).toMatchObject({ kind: 'ours' });
  });
});

test('the cache works on a Cluster too', async () => {
  await using cluster = await redisCluster();
  const world = { ...fresh(), nodes: cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port })) };
  const [one, two] = [await replica(world), await replica(world)];
  const since = two.latest();
  await one.invalidations.invalidate('main', A);
  expect(two.isInvalid('/a', since)).toBe(true);
  await stored(one, responseOf(one));
  expect(await two.responses.get(KEY)).toBeDefined();
  expect(await one.coalescing.announce(KEY, one.latest(), Promise.resolve('unshareable'))).toMatchObject({
    kind: 'ours',
  });
}, 60_000);

test('a subscriber to a Cluster reconnects after its node, or every node, was gone', async () => {
  await using cluster = await redisCluster();
  const nodes = cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
  const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const settings = { servers: { kind: 'cluster', nodes }, ...none } as const;
  const heard: string[] = [];
  let began = 0;
  const close = subscribe({
    ...{ settings, clock: systemClock, log: quiet, channel: 'news' },
    onMessage: (text) => void heard.push(text),
    onSubscribed: () => void began++,
  });
  const hears = (text: string) =>
    until(`it hears ${text}`, async () => {
      // A Cluster that starts refuses commands for a moment.
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
  close();
}, 60_000);
