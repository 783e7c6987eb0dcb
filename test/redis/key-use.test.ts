import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRedis } from '../../src/adapters/redis/client/connection.ts';
import { createKeyUseStore } from '../../src/adapters/redis/key-use/key-use-store.ts';
import { KeyUses, lastMinuteOf } from '../../src/auth/key-use.ts';
import { systemClock } from '../../src/clock.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await redisServer();
});
afterAll(() => redis[Symbol.asyncDispose]());

const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
let prefixes = 0;

/** Replicas with clocks of their own, which share a hash. */
function replicas() {
  const prefix = `uses${prefixes++}`;
  const client = redis.client();
  const create = (clock: ManualClock) =>
    new KeyUses({ clock, log: SILENT, store: createKeyUseStore({ client, prefix, onReady: () => {} }) });
  return { create, kept: () => client.hgetall(`${prefix}:key-uses`), client, hash: `${prefix}:key-uses` };
}

const at = (time: string) => Date.parse(`2026-11-02T${time}Z`);
const NOON = at('12:00:00');

describe('the last use of a key', () => {
  test('is known to every replica, to the minute, a minute after it', async () => {
    const { create } = replicas();
    const clock = new ManualClock(NOON);
    const [one, other] = [create(clock), create(clock)];
    const [here, there] = [one.of('billing', '2026-11'), other.of('billing', '2026-11')];
    one.start();
    other.start();
    here.lastUsedAt = at('12:00:31');
    expect(lastMinuteOf(there)).toBeNull();
    // The other may report first; then it learns of the use in the next minute.
    await until('the other replica knows', async () => {
      clock.advance(MINUTE);
      return lastMinuteOf(there) !== null;
    });
    expect([lastMinuteOf(there), lastMinuteOf(here)]).toEqual([NOON, NOON]);
    await Promise.all([one.stop(), other.stop()]);
    expect(clock.pending).toBe(0);
  });

  test('is the latest of all, whatever the order in which replicas report', async () => {
    const { create, kept } = replicas();
    const [early, late, reader] = [0, 1, 2].map(() => create(new ManualClock(NOON))) as [KeyUses, KeyUses, KeyUses];
    early.of('billing', 'a').lastUsedAt = at('12:01:59');
    late.of('billing', 'a').lastUsedAt = at('12:07:01');
    for (const each of [late, early]) await each.stop();
    expect(await kept()).toEqual({ 'billing/a': String(at('12:07:00') / MINUTE) });
    const use = reader.of('billing', 'a');
    await reader.stop();
    expect(lastMinuteOf(use)).toBe(at('12:07:00'));
  });

  test('outlives a restart, the loss of all memory of Redis, and the removal of the key from the configuration', async () => {
    const { create, client, hash } = replicas();
    const first = create(new ManualClock(NOON));
    const tenant = { id: 'billing', keys: [{ id: 'a' }], identities: [] };
    first.of('billing', 'a').lastUsedAt = NOON;
    await first.stop();
    const next = create(new ManualClock(NOON + DAY));
    const use = next.of('billing', 'a');
    next.start();
    await until('the use is known', async () => lastMinuteOf(use) === NOON);
    next.keep([tenant]);
    expect(next.of('billing', 'a')).toBe(use);
    await client.del(hash);
    await next.stop();
    next.keep([]);
    expect(lastMinuteOf(next.of('billing', 'a'))).toBeNull();
    const again = create(new ManualClock(NOON + 2 * DAY));
    const restored = again.of('billing', 'a');
    await again.stop();
    expect(lastMinuteOf(restored)).toBe(NOON);
  });

  test('is missing since the day on which the first replica had the key; a use ends that', async () => {
    const { create } = replicas();
    const [old, young] = [create(new ManualClock(NOON)), create(new ManualClock(NOON + 40 * DAY))];
    old.of('billing', 'a');
    const use = young.of('billing', 'a');
    await old.stop();
    await young.stop();
    expect([use.knownSince, use.lastUsedAt]).toEqual([NOON, 0]);
    old.of('billing', 'a').lastUsedAt = at('12:03:00');
    await old.stop();
    await young.stop();
    expect(lastMinuteOf(use)).toBe(at('12:03:00'));
  });

  test('of a key that was removed is forgotten after 400 days', async () => {
    const { create, kept } = replicas();
    const uses = create(new ManualClock(NOON));
    uses.of('gone', 'used').lastUsedAt = NOON;
    uses.of('gone', 'unused');
    await uses.stop();
    const soon = create(new ManualClock(NOON + 399 * DAY));
    soon.of('billing', 'a');
    await soon.stop();
    expect(Object.keys(await kept())).toHaveLength(3);
    const later = create(new ManualClock(NOON + 401 * DAY));
    later.of('billing', 'a');
    await later.stop();
    expect(Object.keys(await kept())).toEqual(['billing/a']);
  });

  test('of thousands of keys is shared as well', async () => {
    const { create } = replicas();
    const [one, other] = [create(new ManualClock(NOON)), create(new ManualClock(NOON))];
    const ids = Array.from({ length: 2_500 }, (_, index) => `k${index}`);
    for (const [index, id] of ids.entries()) one.of('billing', id).lastUsedAt = NOON + index * MINUTE;
    const theirs = ids.map((id) => other.of('billing', id));
    await one.stop();
    await other.stop();
    expect(theirs.map(lastMinuteOf)).toEqual(ids.map((_, index) => NOON + index * MINUTE));
  });
});

test('while Redis is away nothing is lost and nothing waits; all is shared once it is back', async () => {
  await using server = await redisServer();
  const servers = { kind: 'alone', host: '127.0.0.1', port: server.port, db: 0 } as const;
  const access = { username: null, password: null, sentinelPassword: null, tls: null, timeoutMs: 1_000 };
  const connection = openRedis({ settings: { servers, ...access }, clock: systemClock, log: SILENT });
  const { client } = connection;
  const clock = new ManualClock(NOON);
  const uses = new KeyUses({
    clock,
    log: SILENT,
    store: createKeyUseStore({ client, prefix: 'away', onReady: connection.onReady }),
  });
  const use = uses.of('billing', 'a');
  await server.kill();
  uses.start();
  use.lastUsedAt = NOON;
  await server.start();
  await until('the use is kept', async () => {
    const kept = await client.hget('away:key-uses', 'billing/a').catch(() => null);
    return kept === String(NOON / MINUTE);
  });
  await uses.stop();
  connection.close();
});
