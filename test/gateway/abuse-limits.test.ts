import { describe, expect, test } from 'vitest';
import { createCounter, createFailedAuthLimit, createFloodLimit } from '../../src/adapters/abuse-limits.ts';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import { createAddressWarnings } from '../../src/server/line-limit.ts';
import { BILLING_KEY, codeOf, configuration, eventually, READER_KEY, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { dial } from '../support/raw-socket.ts';
import { redisServer, until } from '../support/redis.ts';

const guess = (i: number) => ({ headers: { Authorization: `Bearer fake-guess-${i}` } });
const limits = (more: Record<string, unknown>) => (upstream: string) => configuration(upstream, { limits: more });

describe('guessing keys', () => {
  test('blocks the address after limits.failedAuth, valid keys too, and no other address', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          limits: { failedAuth: 5 },
          listen: {
            traffic: { host: '127.0.0.1', port: 0 },
            admin: { host: '127.0.0.1', port: 0 },
            trustedProxies: ['127.0.0.0/8'],
          },
        }),
    });
    const from = (address: string, key: string) =>
      gateway.fetch('/_gateway/whoami', { headers: { Authorization: key, 'X-Forwarded-For': address } });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push((await from('192.0.2.1', `fake-guess-${i}`)).status);
    expect(statuses).toEqual([401, 401, 401, 401, 401]);
    const blocked = await from('192.0.2.1', BILLING_KEY);
    expect([blocked.status, await blocked.json()]).toEqual([
      429,
      expect.objectContaining({ code: 'address_blocked', detail: expect.stringContaining(' came from 192.0.2.1. ') }),
    ]);
    expect(Number(blocked.headers.get('retry-after'))).toBeGreaterThanOrEqual(55);
    expect(Number(blocked.headers.get('retry-after'))).toBeLessThanOrEqual(60);
    expect((await from('192.0.2.2', BILLING_KEY)).status).toBe(200);
    expect(await gateway.metric('patchgate_rejections_total', { code: 'address_blocked' })).toBe(1);
    expect(gateway.logText()).not.toContain('fake-guess');
  });

  test('is logged once with the address and the setting for proxies, and shown in /status, until the minute is over', async () => {
    const clock = new ManualClock();
    await using gateway = await run({ clock, config: limits({ failedAuth: 3 }) });
    const forwarded = { headers: { 'X-Forwarded-For': '192.0.2.9' } };
    for (let i = 0; i < 3; i++) await gateway.fetch('/_gateway/whoami', forwarded);
    for (let i = 0; i < 9; i++) await gateway.fetch('/_gateway/whoami', guess(i));
    const logs = () => gateway.logs().filter(({ level, msg }) => level === 'warn' && msg !== 'request');
    expect(logs()).toMatchObject([
      { peer: '127.0.0.1', msg: 'X-Forwarded-For of a peer that is no trusted proxy is ignored' },
      {
        ...{ port: 'traffic', address: '127.0.0.1', seconds: 60, sendsForwardedFor: true },
        msg: 'address blocked after too many failed authentications',
      },
    ]);
    expect(logs()[1]?.hint).toContain('list it in listen.trustedProxies');
    const blocked = async () => ((await (await fetch(`${gateway.adminUrl}/status`)).json()) as StatusDocument).blocked;
    const address = {
      port: 'traffic',
      address: '127.0.0.1',
      forMs: 60_000,
      isTrustedProxy: false,
      sendsForwardedFor: true,
    };
    expect(await blocked()).toEqual({ count: 1, addresses: [address] });
    clock.advance(60_001);
    expect(await blocked()).toEqual({ count: 0, addresses: [] });
    for (let i = 0; i < 9; i++) await gateway.fetch('/_gateway/whoami', guess(i));
    expect(logs()).toHaveLength(3);
  });

  test('at the address of a trusted proxy that names no caller locks out no valid key, and wrong ones get 429', async () => {
    const listen = {
      ...{ traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
      trustedProxies: ['127.0.0.1/32'],
    };
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { limits: { failedAuth: 3 }, listen }),
    });
    const statusOf = async (init?: RequestInit) => (await gateway.fetch('/_gateway/whoami', init)).status;
    expect([await statusOf(guess(1)), await statusOf(guess(2)), await statusOf(guess(3))]).toEqual([401, 401, 401]);
    expect([await statusOf(guess(4)), await statusOf(), await statusOf(guess(5))]).toEqual([429, 200, 429]);
    expect(gateway.logText()).toContain('it is a trusted proxy that sends no X-Forwarded-For');
    // A caller that the proxy names is blocked as ever.
    const named = (key: string) => statusOf({ headers: { Authorization: key, 'X-Forwarded-For': '192.0.2.1' } });
    for (let i = 0; i < 3; i++) await named(`fake-guess-${i}`);
    expect(await named(BILLING_KEY)).toBe(429);
  });

  test('a flood from many addresses leaves a bounded number of lines', () => {
    const clock = new ManualClock();
    const lines: unknown[] = [];
    const note = (fields: unknown, message: string) => void lines.push([fields, message]);
    const warnings = createAddressWarnings({
      log: { debug: note, info: note, warn: note, error: note },
      clock,
      isTrustedProxy: () => false,
    });
    for (let i = 0; i < 5_000; i++) {
      warnings.untrustedForwarder(`peer-${i}`);
      warnings.blocked('traffic', `address-${i}`, 60_000);
    }
    expect(lines).toHaveLength(120);
  });

  test.each(['alone', 'with Redis'])(
    'by requests that arrive together gains nothing: %s, they are counted before they are answered',
    async (state) => {
      await using redis = state === 'alone' ? null : await redisServer();
      const shared = redis === null ? {} : { redis: { url: redis.url } };
      await using gateway = await run({ config: (upstream) => configuration(upstream, shared) });
      const requests = Array.from({ length: 1_500 }, (_, i) =>
        ['GET /api/v1/flows HTTP/1.1', 'Host: x', `X-API-Key: fake-guess-${i}`, '', ''].join('\r\n'),
      );
      using caller = await dial(gateway.port);
      caller.write(requests.join(''));
      await caller.responses(1_500);
      const statuses = caller.statuses();
      expect(statuses.filter((status) => status === 401)).toHaveLength(20);
      expect(statuses.filter((status) => status === 429)).toHaveLength(1_480);
    },
  );

  test('counts for an address over all replicas that share a Redis', async () => {
    await using redis = await redisServer();
    const config = (upstream: string) =>
      configuration(upstream, { redis: { url: redis.url }, limits: { failedAuth: 6 } });
    await using one = await run({ config });
    await using two = await run({ config });
    for (let i = 0; i < 3; i++) {
      await one.fetch('/_gateway/whoami', guess(i));
      await two.fetch('/_gateway/whoami', guess(i));
    }
    // The second replica counted the sixth failure; the first one learns of the block with its next failure.
    await eventually(
      async () => (await two.fetch('/_gateway/whoami')).status === 429,
      'blocked where the sixth failed',
    );
    await one.fetch('/_gateway/whoami', guess(9));
    await eventually(async () => (await one.fetch('/_gateway/whoami')).status === 429, 'blocked on the other replica');
    expect(await one.metric('patchgate_guard_fallbacks_total')).toBe(0);
  });

  test('a missing key is no guess', async () => {
    await using gateway = await run({ config: limits({ failedAuth: 2 }) });
    for (let i = 0; i < 5; i++) {
      const response = await fetch(`${gateway.url}/api/v1/flows`);
      expect(await codeOf(response)).toBe('key_missing');
    }
    expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
  });

  test('is counted in the process while Redis is away, and the metrics show it', async () => {
    await using redis = await redisServer();
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { redis: { url: redis.url }, limits: { failedAuth: 3 } }),
    });
    redis.stop();
    for (let i = 0; i < 3; i++) await gateway.fetch('/_gateway/whoami', guess(i));
    await eventually(async () => (await gateway.fetch('/_gateway/whoami')).status === 429, 'blocked');
    const fallbacks = () => gateway.metric('patchgate_guard_fallbacks_total', { guard: 'guess' });
    await eventually(async () => (await fallbacks()) === 3, 'each failure is counted without Redis');
  });

  test('from one IPv6 network counts together, whatever the address', async () => {
    const clock = new ManualClock();
    const limit = createFailedAuthLimit({ counter: null, clock, limit: 2 });
    limit.failed('2001:db8:0:1::a');
    limit.failed('2001:db8:0:1:ffff::b');
    expect(limit.blockedForMs('2001:db8:0:1::c')).toBe(60_000);
    expect(limit.blockedForMs('2001:db8:0:2::a')).toBe(0);
    clock.advance(60_001);
    expect(limit.blockedForMs('2001:db8:0:1::c')).toBe(0);
  });

  test('from ever new addresses leaves no address uncounted, and forgets the one that failed least recently', () => {
    const clock = new ManualClock();
    const limit = createFailedAuthLimit({ counter: null, clock, limit: 2 });
    const isBlockedAfterTwo = (address: string): boolean => {
      limit.failed(address);
      limit.failed(address);
      return limit.blockedForMs(address) > 0;
    };
    const addressOf = (i: number) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
    for (let i = 0; i < 25_000; i++) expect(isBlockedAfterTwo(addressOf(i))).toBe(true);
    expect(limit.blockedForMs(addressOf(24_999))).toBeGreaterThan(0);
    expect(limit.blockedForMs(addressOf(0))).toBe(0);
  });

  test('has a window of its own for each address: two bursts at the end of a minute are not two limits', () => {
    const clock = new ManualClock();
    const limit = createFailedAuthLimit({ counter: null, clock, limit: 3 });
    limit.failed('192.0.2.1');
    clock.advance(59_000);
    limit.failed('192.0.2.2');
    limit.failed('192.0.2.2');
    clock.advance(2_000);
    limit.failed('192.0.2.2');
    expect(limit.blockedForMs('192.0.2.2')).toBe(58_000);
  });
});

describe('a flood', () => {
  test('of one tenant is rejected above limits.requestsPerSecond, and other tenants are not affected', async () => {
    await using gateway = await run({ config: limits({ requestsPerSecond: 20 }) });
    const responses = await Promise.all(Array.from({ length: 60 }, () => gateway.fetch('/_gateway/whoami')));
    expect(responses.filter(({ status }) => status === 200)).toHaveLength(60);
    const rejected = await Promise.all(Array.from({ length: 60 }, () => gateway.fetch('/api/v1/flows')));
    const floods = rejected.filter(({ status }) => status === 429);
    expect(floods.length).toBeGreaterThanOrEqual(30);
    expect(await codeOf(floods[0] as Response)).toBe('flood');
    expect(floods[0]?.headers.get('retry-after')).toBe('1');
    expect(floods[0]?.headers.get('x-ratelimit-limit')).not.toBeNull();
    const other = await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    expect(other.status).toBe(200);
  });

  test('is counted over replicas in batches, not with one command for each request', async () => {
    await using redis = await redisServer();
    const client = redis.client();
    const clock = new ManualClock();
    const shared = { client, prefix: 'test' };
    const newLimit = () =>
      createFloodLimit({
        counter: createCounter({ name: 'flood', limit: 100, windowSeconds: 1, redis: shared, onFallback: () => {} }),
        clock,
        limit: 100,
      });
    const [one, two] = [newLimit(), newLimit()];
    const before = Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1]);
    for (let i = 0; i < 70; i++) expect([one.blockedForMs('a'), two.blockedForMs('a')]).toEqual([0, 0]);
    clock.advance(200);
    await until('the batches are counted', async () => one.blockedForMs('a') > 0 || two.blockedForMs('a') > 0);
    const commands = Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1]) - before;
    // Two batches of a script with three commands, and the command that reads the count.
    expect(commands).toBeLessThanOrEqual(14);
    expect(commands).toBeGreaterThan(4);
    clock.advance(1_001);
    expect(one.blockedForMs('b')).toBe(0);
  });
});
