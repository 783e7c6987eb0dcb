import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import {
  BILLING_KEY,
  type Config,
  configuration,
  EXPIRED_KEY,
  eventually,
  READER_KEY,
  type Running,
  run,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await redisServer();
});
afterAll(() => redis[Symbol.asyncDispose]());

const DAY = 86_400_000;
const METRIC = 'patchgate_tenant_key_last_used_timestamp_seconds';
const statusOf = async (gateway: Running): Promise<StatusDocument> =>
  JSON.parse(await (await fetch(`${gateway.adminUrl}/status`)).text());
const keysOf = async (gateway: Running, tenant: string) => (await statusOf(gateway)).tenants[tenant]?.keys ?? [];
const as = (key: string) => ({ headers: { Authorization: key } });

describe('a use of a key', () => {
  test('is in /status and in a metric at once, without Redis too, and outlives a reload', async () => {
    const clock = new ManualClock(Date.parse('2026-11-02T09:00:29Z'));
    await using gateway = await run({ clock, cold: true });
    expect(await keysOf(gateway, 'reader')).toEqual([
      { id: 'only', kind: 'key', expires: null, expiresInMs: null, lastUsed: null, unusedForMs: 0 },
    ]);
    expect(await gateway.metric(METRIC)).toBe(0);
    clock.advance(5 * 60_000);
    await gateway.fetch('/_gateway/whoami', as(READER_KEY));
    clock.advance(10 * 60_000);
    const used = [{ lastUsed: '2026-11-02T09:05:00.000Z', unusedForMs: 10 * 60_000 + 29_000 }];
    expect(await keysOf(gateway, 'reader')).toMatchObject(used);
    expect(await gateway.metric(METRIC, { tenant: 'reader', key: 'only' })).toBe(
      Date.parse('2026-11-02T09:05:00Z') / 1000,
    );
    await gateway.reload((upstream) => configuration(upstream, { cache: { memory: '8MiB' } }));
    expect(await keysOf(gateway, 'reader')).toMatchObject(used);
  });

  test('is none if the key was rejected', async () => {
    const keys = [{ ...TENANTS.reader.keys[0], cidrs: ['192.0.2.0/24'] }];
    const config = (upstream: string): Config =>
      configuration(upstream, { tenants: { ...TENANTS, reader: { ...TENANTS.reader, keys } } });
    await using gateway = await run({ config });
    const statuses = await Promise.all(
      [EXPIRED_KEY, READER_KEY].map(async (key) => (await gateway.fetch('/api/v1/flow-runs', as(key))).status),
    );
    expect(statuses).toEqual([401, 403]);
    expect(await keysOf(gateway, 'billing')).toMatchObject([
      { id: 'now' },
      { id: 'old', lastUsed: null, expiresInMs: 0 },
    ]);
    expect(await keysOf(gateway, 'reader')).toMatchObject([{ lastUsed: null }]);
  });

  test('is known to the next process, and to another replica, through Redis; Redis has no key and no digest', async () => {
    const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url, prefix: 'restart' } });
    const first = await run({ config });
    try {
      await first.fetch('/_gateway/whoami', as(READER_KEY));
    } finally {
      await first.drain();
      await first.simulator.close();
    }
    await using next = await run({ config });
    await eventually(
      async () => (await next.metric(METRIC, { tenant: 'reader', key: 'only' })) > 0,
      'the use is known',
    );
    const kept = JSON.stringify(await redis.client().hgetall('restart:key-uses'));
    expect(Object.keys(JSON.parse(kept)).sort()).toEqual([
      'billing/now',
      'billing/old',
      'disabled/only',
      'reader/only',
    ]);
    for (const secret of [READER_KEY, BILLING_KEY, TENANTS.reader.keys[0]?.sha256.slice(0, 9)]) {
      expect(kept).not.toContain(secret);
    }
  });
});

test('keys that have expired, expire within 14 days, or were not used for 30 days are findings, of enabled tenants only', async () => {
  const clock = new ManualClock(Date.parse('2026-11-02T00:00:00Z'));
  const sha256 = (index: number) => String(index).padStart(64, '0');
  const key = (id: string, index: number, expires?: string) => ({
    id,
    sha256: sha256(index),
    ...(expires && { expires }),
  });
  const dated = [
    key('over', 1, '2026-11-01T00:00:00Z'),
    key('soon', 2, '2026-11-16T00:00:00Z'),
    key('later', 3, '2027-11-16T00:00:00Z'),
  ];
  const config = (upstream: string): Config =>
    configuration(upstream, {
      tenants: {
        reader: TENANTS.reader,
        billing: { ...TENANTS.billing, keys: [TENANTS.billing.keys[0], ...dated] },
        many: { keys: Array.from({ length: 7 }, (_, index) => key(`k${index}`, 10 + index)) },
        off: { disabled: true, keys: [key('over', 4, '2026-01-01T00:00:00Z')] },
      },
    });
  await using gateway = await run({ clock, config });
  const none = { count: 0, first: [] };
  expect((await statusOf(gateway)).keys).toEqual({
    expired: { count: 1, first: ['billing/over'] },
    ending: { count: 1, first: ['billing/soon'] },
    unused: none,
  });
  clock.advance(29 * DAY);
  await gateway.fetch('/_gateway/whoami', as(READER_KEY));
  clock.advance(DAY);
  expect((await statusOf(gateway)).keys).toEqual({
    expired: { count: 2, first: ['billing/over', 'billing/soon'] },
    ending: none,
    unused: { count: 9, first: ['billing/now', 'billing/later', 'many/k0', 'many/k1', 'many/k2'] },
  });
});
