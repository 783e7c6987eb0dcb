import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openBus } from '../../src/adapters/redis/bus.ts';
import { type ConnectionSettings, openRedis } from '../../src/adapters/redis/connection.ts';
import { openListener } from '../../src/adapters/redis/listener.ts';
import { createSharedLogins, type SharedLogins } from '../../src/adapters/redis/logins.ts';
import type { SealingKey } from '../../src/adapters/redis/seal.ts';
import { systemClock } from '../../src/clock.ts';
import type { Log, Meter } from '../../src/ports.ts';
import { Secret } from '../../src/secret.ts';
import type { FailedLogin } from '../../src/upstream/rest.ts';
import type { Claimed, SharedLogin } from '../../src/upstream/shared-login.ts';
import { type ClusterSet, type RedisServer, redisCluster, redisServer, until } from '../support/redis.ts';

const quiet = new Proxy({}, { get: () => () => {} }) as Log & Meter;
const KEY: SealingKey = { id: 'k1', bytes: Buffer.alloc(32, 7) };
const DAY = 86_400_000;
const UNREACHABLE: FailedLogin = { kind: 'failed', why: 'unreachable', retryAfterMs: 0, internal: '' };
const none = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };

interface Place {
  readonly settings: ConnectionSettings;
  /** Of the server that has the account. */
  call(command: string, ...args: (string | number)[]): Promise<unknown>;
  /** Its time, in milliseconds. */
  now(): Promise<number>;
}

const closing: (() => void)[] = [];
let server: RedisServer;
let cluster: ClusterSet;
const places = new Map<string, Place>();
beforeAll(async () => {
  [server, cluster] = await Promise.all([redisServer(), redisCluster()]);
  const place = (servers: ConnectionSettings['servers']): Place => {
    const settings = { ...none, servers };
    const { client, close } = openRedis({ settings, log: quiet });
    closing.push(close);
    const call = (command: string, ...args: (string | number)[]) => client.call(command, ...args) as Promise<unknown>;
    const now = async () => {
      const [seconds, micros] = (await call('TIME')) as [string, string];
      return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
    };
    return { settings, call, now };
  };
  places.set('alone', place({ kind: 'alone', host: '127.0.0.1', port: server.port, db: 0 }));
  const nodes = cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
  places.set('a Cluster', place({ kind: 'cluster', nodes }));
}, 30_000);
afterAll(async () => {
  for (const close of closing) close();
  await Promise.all([server[Symbol.asyncDispose](), cluster[Symbol.asyncDispose]()]);
});

let runs = 0;

describe.each(['alone', 'a Cluster'])('a login that replicas share, on Redis %s', (kind) => {
  const at = (): Place => places.get(kind) as Place;

  const replica = async (prefix: string, keys: readonly SealingKey[] = [KEY]): Promise<SharedLogins> => {
    const { settings } = at();
    const connection = openRedis({ settings, log: quiet });
    const listener = openListener({ settings, clock: systemClock, log: quiet });
    const bus = openBus({ listener, client: connection.client, prefix, log: quiet });
    closing.push(() => bus.close(), connection.close);
    let listening = false;
    bus.onListening(() => {
      listening = true;
    });
    const logins = createSharedLogins({
      ...{ ...connection, bus, prefix, replica: randomUUID(), keys, log: quiet, meter: quiet },
    });
    await until('it can ask and listens', async () => connection.isReady() && listening);
    return logins;
  };
  const identity = { account: 'main', credential: 'login', url: 'https://id.example.test/login', username: 'u' };
  const loginOf = (logins: SharedLogins, password = 'fake-password', more: Partial<typeof identity> = {}) =>
    logins.of({ ...identity, ...more, password: new Secret(password) });

  const course = async () => {
    const prefix = `logins${runs++}`;
    const all = await Promise.all([replica(prefix), replica(prefix)]);
    const [one, two] = all.map((each) => loginOf(each)) as [SharedLogin, SharedLogin];
    // The only name it can have is found by what is stored under it.
    await two.claim('first', null);
    const key = await keyOf(prefix);
    await at().call('DEL', key);
    const field = (name: string) => at().call('HGET', key, name);
    const passed = () => at().call('HSET', key, 'u', 1);
    return { prefix, all, one, two, key, field, passed };
  };
  const keyOf = async (prefix: string): Promise<string> => {
    const servers = kind === 'alone' ? [server] : cluster.nodes;
    const found = await Promise.all(servers.map((each) => each.client().keys(`${prefix}:*`)));
    const [key] = found.flat();
    if (key === undefined) throw new Error('nothing is stored');
    return key;
  };
  const begun = (attempt: string, claimed: Claimed) => {
    if (claimed.kind !== 'ours') throw new Error(`not ours: ${claimed.kind}`);
    return { attempt, at: claimed.at };
  };

  test('is made by one of many who ask at once, and its token taken by all others', async () => {
    const { one, two } = await course();
    const attempts = Array.from({ length: 20 }, (_, i) => `a${i}`);
    const claimed = await Promise.all(attempts.map((each, i) => (i % 2 ? one : two).claim(each, null)));
    expect(claimed.filter(({ kind: each }) => each === 'ours')).toHaveLength(1);
    expect(claimed.filter(({ kind: each }) => each === 'theirs')).toHaveLength(19);
    const winner = claimed.findIndex(({ kind: each }) => each === 'ours');
    const own = begun(attempts[winner] as string, claimed[winner] as Claimed);
    expect(await one.store({ id: 't1', token: 'fake-token', lifeMs: DAY, begun: own })).toBeNull();
    const taken = await two.claim('late', null);
    expect(taken).toMatchObject({ kind: 'token', issued: { id: 't1', token: 'fake-token', refusals: 0 } });
    if (taken.kind !== 'token') throw new Error();
    expect(taken.issued.leftMs).toBeGreaterThan(DAY - 10_000);
    expect(taken.issued.lifeMs).toBe(DAY);
  });

  test('is told to the other replicas when it ends, and to them alone', async () => {
    const { one, two, prefix } = await course();
    const heard: string[] = [];
    one.onNews(() => heard.push('one'));
    two.onNews(() => heard.push('two'));
    const own = begun('a', await one.claim('a', null));
    await one.store({ id: 't1', token: 'fake-token', lifeMs: DAY, begun: own });
    await until('the other hears of it', async () => heard.includes('two'));
    const next = begun('b', await two.claim('b', { id: 't1', refused: false }));
    await two.fail(next.attempt, UNREACHABLE, 0);
    await until('so of a failure', async () => heard.includes('one'));
    expect(heard).toEqual(['two', 'one']);
    two.close();
    await one.store({ id: 't2', token: 'fake-token-2', lifeMs: DAY, begun: { agoMs: 0 } });
    const third = loginOf(await replica(prefix));
    third.onNews(() => heard.push('third'));
    await one.store({ id: 't3', token: 'fake-token-3', lifeMs: DAY, begun: { agoMs: 0 } });
    await until('whoever listens hears of it', async () => heard.includes('third'));
    expect(heard).toEqual(['two', 'one', 'third']);
  });

  test('is taken over when nothing is heard of whoever makes it, and not while something is', async () => {
    const { one, two, field, passed } = await course();
    const first = begun('a', await one.claim('a', null));
    expect(await two.claim('b', null)).toEqual({ kind: 'theirs' });
    const before = Number(await field('u'));
    await until('it is later', async () => (await at().now()) > first.at);
    one.keep('a');
    await until('it is kept', async () => Number(await field('u')) > before);
    two.keep('b');
    await passed();
    begun('b', await two.claim('b', null));
    expect(await one.claim('c', null)).toEqual({ kind: 'theirs' });
    // What is heard of the first one now changes nothing.
    const until2 = await field('u');
    one.keep('a');
    expect(await one.claim('c', null)).toEqual({ kind: 'theirs' });
    expect([await field('o'), await field('u')]).toEqual(['b', until2]);
  });

  test('that was taken for dead brings back no older token, ends nobody’s attempt, and sets no rest', async () => {
    const { one, two, field, passed } = await course();
    const slow = begun('slow', await one.claim('slow', null));
    await passed();
    await until('it is later', async () => (await at().now()) > slow.at);
    const quick = begun('quick', await two.claim('quick', null));
    expect(await one.fail('slow', UNREACHABLE, 3)).toBeNull();
    expect([await field('o'), await field('r')]).toEqual(['quick', null]);
    await two.store({ id: 'new', token: 'fake-new', lifeMs: DAY, begun: quick });
    const newer = await one.store({ id: 'old', token: 'fake-old', lifeMs: DAY, begun: slow });
    expect(newer).toMatchObject({ id: 'new', token: 'fake-new' });
    expect(await two.look(null)).toMatchObject({ id: 'new' });
  });

  test('of whoever could not ask is everybody’s if it began later, and nobody’s if it began before', async () => {
    const { one, two } = await course();
    await one.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: { agoMs: 60_000 } });
    expect(await two.store({ id: 't0', token: 'fake-zero', lifeMs: DAY, begun: { agoMs: 90_000 } })).toMatchObject({
      id: 't1',
      token: 'fake-one',
    });
    expect(await two.store({ id: 't2', token: 'fake-two', lifeMs: DAY, begun: { agoMs: 30_000 } })).toBeNull();
    const seen = await one.look(null);
    expect(seen).toMatchObject({ id: 't2', token: 'fake-two' });
    // From when its login began.
    expect(seen?.leftMs).toBeLessThanOrEqual(DAY - 30_000);
  });

  test('whose token is refused gets one new one for all: of those who say so one logs in', async () => {
    const { one, two } = await course();
    const own = begun('a', await one.claim('a', null));
    await one.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: own });
    const refused = { id: 't1', refused: true };
    const claimed = await Promise.all([one.claim('b', refused), two.claim('c', refused), two.claim('d', refused)]);
    expect(claimed.map(({ kind: each }) => each).sort()).toEqual(['ours', 'theirs', 'theirs']);
    const at0 = claimed.findIndex(({ kind: each }) => each === 'ours');
    const next = begun(['b', 'c', 'd'][at0] as string, claimed[at0] as Claimed);
    await one.store({ id: 't2', token: 'fake-two', lifeMs: DAY, begun: next });
    // Whoever hears of the refusal of the old one only now takes the new one.
    expect(await two.claim('e', refused)).toMatchObject({ kind: 'token', issued: { id: 't2', refusals: 1 } });
    two.accepted();
    await until('it works', async () => (await one.look(null))?.refusals === 0);
  });

  test('that fails lets all rest, longer each time, never shorter; without a slot it is no failure', async () => {
    const { one, two, key } = await course();
    const over = () => at().call('HSET', key, 'r', 1);
    for (const [turn, restMs] of [2_000, 4_000, 8_000].entries()) {
      begun(`a${turn}`, await one.claim(`a${turn}`, null));
      expect(await one.fail(`a${turn}`, UNREACHABLE, 0)).toEqual({ restMs, failures: turn + 1 });
      expect(await two.claim('b', null)).toMatchObject({ kind: 'resting', why: 'unreachable', failures: turn + 1 });
      await over();
    }
    begun('c', await two.claim('c', null));
    expect(await two.fail('c', { ...UNREACHABLE, why: 'throttled', retryAfterMs: 300 }, 0)).toEqual({
      restMs: 300,
      failures: 3,
    });
    await over();
    begun('d', await one.claim('d', null));
    expect(await one.fail('d', { ...UNREACHABLE, retryAfterMs: 60_000 }, 0)).toEqual({ restMs: 60_000, failures: 4 });
    // One that had been claimed before that rest.
    await at().call('HSET', key, 'o', 'e');
    expect((await two.fail('e', UNREACHABLE, 0))?.restMs).toBeGreaterThan(50_000);
    // A replica that failed by itself before brings its count along.
    await over();
    begun('f', await one.claim('f', null));
    expect(await one.fail('f', UNREACHABLE, 20)).toEqual({ restMs: 300_000, failures: 21 });
  });

  test('with another password does not rest for what the one before did, and begins to count anew', async () => {
    const { one, all } = await course();
    begun('a', await one.claim('a', null));
    await one.fail('a', { ...UNREACHABLE, why: 'rejected' }, 5);
    const changed = loginOf(all[1] as SharedLogins, 'fake-password-2');
    begun('b', await changed.claim('b', null));
    expect(await changed.fail('b', UNREACHABLE, 0)).toEqual({ restMs: 2_000, failures: 1 });
  });

  test('that Redis has forgotten meanwhile is known again with its token', async () => {
    const { one, two, key } = await course();
    const own = begun('a', await one.claim('a', null));
    await at().call('DEL', key);
    expect(await one.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: own })).toBeNull();
    expect(await two.look(null)).toMatchObject({ id: 't1' });
  });

  test('has an end in Redis, whatever has become of it', async () => {
    const { one, key } = await course();
    const left = async () => Number(await at().call('PTTL', key));
    const own = begun('a', await one.claim('a', null));
    expect(await left()).toBeGreaterThan(500_000);
    one.keep('a');
    one.accepted();
    await one.fail('a', UNREACHABLE, 0);
    expect(await left()).toBeLessThan(620_000);
    await at().call('HSET', key, 'r', 1);
    begun('b', await one.claim('b', null));
    await one.store({ id: 't1', token: 'fake-one', lifeMs: 1e18, begun: own });
    expect(await left()).toBeGreaterThan(29 * DAY);
    expect(await left()).toBeLessThan(31 * DAY);
    await one.claim('c', { id: 't1', refused: true });
    expect(await left()).toBeGreaterThan(0);
  });

  test('is as if it were not known where what is stored is none of ours, in any field, and nothing throws', async () => {
    const { one, two, key } = await course();
    const fields = ['i', 't', 'a', 'e', 'c', 'o', 'u', 'r', 'w', 'n', 'm'];
    for (const name of fields) {
      for (const value of ['', 'x', '-1', '1e400', 'nan', '99999999999999999999', '\u0000']) {
        await at().call('DEL', key);
        const own = begun('a', await one.claim('a', null));
        await one.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: own });
        await at().call('HSET', key, name, value);
        const claimed = await two.claim('b', null);
        if (claimed.kind === 'token') expect(claimed.issued.token).toBe('fake-one');
        else expect(['ours', 'theirs', 'resting', 'alone']).toContain(claimed.kind);
        await two.claim('c', { id: 't1', refused: true });
        await two.fail('c', UNREACHABLE, 0);
        await two.store({ id: 't2', token: 'fake-two', lifeMs: DAY, begun: { agoMs: 0 } });
      }
    }
    await at().call('DEL', key);
    await at().call('SET', key, 'none of ours');
    begun('d', await one.claim('d', null));
  });

  test('that was moved to another credential or account, or sealed with a key that is unknown, is not taken', async () => {
    const { one, two, prefix, key, all } = await course();
    await one.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: { agoMs: 0 } });
    const sealed = String(await at().call('HGET', key, 't'));
    const elsewhere = loginOf(all[0] as SharedLogins, 'fake-password', { credential: 'other' });
    await elsewhere.store({ id: 't1', token: 'fake-other', lifeMs: DAY, begun: { agoMs: 0 } });
    const keys = (
      await Promise.all((kind === 'alone' ? [server] : cluster.nodes).map((each) => each.client().keys(`${prefix}:*`)))
    ).flat();
    const other = keys.find((each) => each !== key) as string;
    expect(await elsewhere.look(null)).toMatchObject({ token: 'fake-other' });
    await at().call('HSET', other, 't', sealed);
    expect(await elsewhere.look(null)).toBeNull();
    expect((await elsewhere.claim('a', null)).kind).toBe('ours');
    const stranger = loginOf(await replica(prefix, [{ id: 'k2', bytes: Buffer.alloc(32, 8) }]));
    expect(await stranger.look(null)).toBeNull();
    begun('b', await stranger.claim('b', null));
    expect(await two.look(null)).toMatchObject({ token: 'fake-one' });
  });

  test('is nobody’s but this replica’s without a key', async () => {
    const { prefix, key } = await course();
    const alone = loginOf(await replica(prefix, []));
    expect(await alone.claim('a', null)).toEqual({ kind: 'alone' });
    expect(await alone.store({ id: 't1', token: 'fake-one', lifeMs: DAY, begun: { agoMs: 0 } })).toBeNull();
    expect(await alone.fail('a', UNREACHABLE, 0)).toBeNull();
    expect(await alone.look(null)).toBeNull();
    expect(await at().call('EXISTS', key)).toBe(0);
  });
});

test('a Redis that hangs costs the deadline of a command, and what it carries out later is over within seconds', async () => {
  await using hung = await redisServer();
  const servers = { kind: 'alone', host: '127.0.0.1', port: hung.port, db: 0 } as const;
  const settings = { ...none, servers, timeoutMs: 50 };
  const connection = openRedis({ settings, log: quiet });
  const listener = openListener({ settings, clock: systemClock, log: quiet });
  const bus = openBus({ listener, client: connection.client, prefix: 'hung', log: quiet });
  closing.push(() => bus.close(), connection.close);
  const logins = createSharedLogins({
    ...{ ...connection, bus, prefix: 'hung', replica: 'one', keys: [KEY], log: quiet, meter: quiet },
  });
  const login = logins.of({
    ...{ account: 'main', credential: 'login', url: 'https://id.example.test', username: 'u' },
    password: new Secret('fake'),
  });
  await until('it can ask', async () => connection.isReady());
  hung.stop();
  expect(await login.claim('a', null)).toEqual({ kind: 'alone' });
  hung.resume();
  const client = hung.client();
  await until('the claim was carried out, or never arrived', async () => (await client.ping()) === 'PONG');
  await until('the next attempt is nobody else’s', async () => (await login.claim('b', null)).kind === 'ours', 8_000);
});
