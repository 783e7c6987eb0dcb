import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import {
  arrived,
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  type Running,
  run,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { rawRequest } from '../support/raw-http.ts';
import { redisServer, until } from '../support/redis.ts';

const START = '/api/v1/flows/1/start';
const OTHER_KEY = 'pgk_other_fake-key-for-tests';
const other = { keys: [{ id: 'only', sha256: sha256(OTHER_KEY) }], quota: { burst: 200, maxWait: '0s' } };
const tenants = { ...TENANTS, other };

const startWith = (
  key: string,
  more: { body?: string; headers?: Record<string, string>; signal?: AbortSignal } = {},
) => ({
  method: 'POST',
  body: more.body ?? '{"payload":"x"}',
  headers: { 'Idempotency-Key': key, 'Content-Type': 'application/json', ...more.headers },
  ...(more.signal && { signal: more.signal }),
});
const writes = ({ simulator }: Running) => simulator.arrivals().filter(({ method }) => method !== 'GET');
const replayed = (response: Response) => response.headers.get('idempotency-replayed') === 'true';

/** Replicas with one Redis and one upstream, the simulator of the first replica. */
async function replicas(count: number, redisUrl: string, more: Config = {}) {
  const config = (upstream: string) => configuration(upstream, { redis: { url: redisUrl }, tenants, ...more });
  const first = await run({ config });
  const all: [Running, ...Running[]] = [first];
  while (all.length < count) all.push(await run({ config: () => config(first.simulator.url) }));
  first.simulator.reset();
  return {
    all,
    first,
    simulator: first.simulator,
    async [Symbol.asyncDispose]() {
      // The first replica owns the simulator.
      for (const each of all.reverse()) await each[Symbol.asyncDispose]();
    },
  };
}

const alone = (more: Config = {}) => run({ config: (upstream) => configuration(upstream, { tenants, ...more }) });

test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'MKCOL', 'PROPPATCH'])('a keyed %s is sent once', async (method) => {
  await using gateway = await alone();
  const send = () => gateway.fetch('/api/v1/flows/1', { method, headers: { 'Idempotency-Key': 'k' } });
  const [first, second] = [await send(), await send()];
  expect([second.status, replayed(first), replayed(second)]).toEqual([first.status, false, true]);
  expect(writes(gateway)).toHaveLength(1);
});

describe('replicas that share a Redis', () => {
  test('start a flow once for any number of concurrent requests, and replay the response to later ones', async () => {
    await using redis = await redisServer();
    await using three = await replicas(3, redis.url);
    three.simulator.switches.responseLatency = { kind: 'fixed', ms: 300 };
    const requests = await Promise.all(
      Array.from({ length: 5 }, (_, i) => (three.all[i % 3] as Running).fetch(START, startWith('once'))),
    );
    const firsts = requests.filter((each) => each.status === 200 && !replayed(each));
    expect(firsts).toHaveLength(1);
    for (const each of requests) {
      if (firsts.includes(each) || replayed(each)) continue;
      expect([each.status, each.headers.get('retry-after'), await codeOf(each)]).toEqual([
        409,
        '1',
        'idempotency_conflict',
      ]);
    }
    const body = await firsts[0]?.text();
    for (const replica of three.all) {
      const repeat = await replica.fetch(START, startWith('"once"'));
      expect([repeat.status, replayed(repeat), await repeat.text()]).toEqual([200, true, body]);
    }
    expect(writes(three.first)).toHaveLength(1);
    expect(
      await three.first.metric('patchgate_upstream_requests_avoided_total', { tenant: 'billing', by: 'replay' }),
    ).toBeGreaterThan(0);
  });

  test('replay a response with links to the replica that replays it, and with the current quota', async () => {
    await using redis = await redisServer();
    await using two = await replicas(2, redis.url);
    const [one, second] = two.all as [Running, Running];
    const next = `${two.simulator.url}/api/v1/data-pool?page=2`;
    const headers = {
      'Content-Type': 'application/json',
      'Set-Cookie': 'fake-session=1',
      'X-RateLimit-Remaining': '3',
    };
    const body = JSON.stringify({ links: { next } });
    two.simulator.fault({
      match: 'POST /api/v1/data-pool',
      times: 1,
      fault: { kind: 'status', status: 201, headers, body },
    });
    const linkOf = async (response: Response) => ((await response.json()) as { links: { next: string } }).links.next;
    const first = await one.fetch('/api/v1/data-pool', startWith('links'));
    expect([first.status, await linkOf(first)]).toEqual([201, next.replace(two.simulator.url, one.url)]);
    const repeat = await second.fetch('/api/v1/data-pool', startWith('links'));
    expect([repeat.status, await linkOf(repeat)]).toEqual([201, next.replace(two.simulator.url, second.url)]);
    expect(repeat.headers.get('set-cookie')).toBeNull();
    expect(repeat.headers.get('x-ratelimit-limit')).toBe('200');
    expect(repeat.headers.get('x-ratelimit-remaining')).not.toBe('3');
    expect(repeat.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
  });

  test('store hashes of tenant and key only, for idempotency.ttl', async () => {
    await using redis = await redisServer();
    await using two = await replicas(1, redis.url, { idempotency: { ttl: '2h' } });
    const first = await two.first.fetch(START, startWith('order-4711'));
    expect([first.status, await first.text()]).toEqual([200, expect.anything()]);
    const client = redis.client();
    const keys = (await client.keys('*')).filter((key) => key.includes(':idempotency:'));
    const digest = (text: string) => createHash('sha256').update(text).digest('base64url');
    const base = 'patchgate:{main}:idempotency';
    const record = `${base}:${digest('billing\norder-4711')}`;
    // With the state that tells one server from another, and the bytes of the tenant's bodies.
    expect(keys.sort()).toEqual([record, `${base}:bytes:${digest('billing')}`, `${base}:state`].sort());
    const leftMs = await client.pttl(record);
    expect(leftMs).toBeGreaterThan(7_000_000);
    expect(leftMs).toBeLessThanOrEqual(7_200_000);
    for (const key of keys) expect(JSON.stringify(await client.hgetall(key))).not.toMatch(/order-4711|billing/);
  });

  test('store no body above 80 % of maxmemory: a repeat gets 409 with the status of the first, and is not sent', async () => {
    await using redis = await redisServer();
    await using two = await replicas(2, redis.url);
    const [one, second] = two.all as [Running, Running];
    const used = Number(/used_memory:(\d+)/.exec(await redis.client().info('memory'))?.[1]);
    await redis.client().config('SET', 'maxmemory', Math.round(used / 0.85));
    expect((await one.fetch(START, startWith('full'))).status).toBe(200);
    const repeat = await second.fetch(START, startWith('full'));
    expect([repeat.status, replayed(repeat)]).toEqual([409, true]);
    expect(await repeat.json()).toMatchObject({
      code: 'idempotency_conflict',
      detail: expect.stringMatching(/carried out, with status 200.*no room/),
    });
    expect(writes(one)).toHaveLength(1);
  });

  test('complete a write whose caller has disconnected, also during a drain, and replay its response', async () => {
    await using redis = await redisServer();
    await using two = await replicas(2, redis.url, { drain: { delay: '0ms', timeout: '10s' } });
    const [one, second] = two.all as [Running, Running];
    two.simulator.switches.responseLatency = { kind: 'fixed', ms: 600 };
    // On its own connection: fetch would replace the broken one.
    const caller = connect(one.port, '127.0.0.1');
    const head = [`X-API-Key: ${BILLING_KEY}`, 'Idempotency-Key: left', 'Content-Type: application/json'];
    caller.write(`${rawRequest(`POST ${START}`, [...head, 'Content-Length: 15'])}{"payload":"x"}`);
    await eventually(() => writes(two.first).length === 1, 'the request is under way');
    caller.destroy();
    await eventually(
      async () => (await one.metric('patchgate_http_requests_in_flight')) === 0,
      'the caller has disconnected',
    );
    const drained = one.drain();
    await until('drained', async () => one.logs().some((line) => line['msg'] === 'drained'));
    expect(writes(two.first).map(({ status }) => status)).toEqual([200]);
    await drained;
    const repeat = await second.fetch(START, startWith('left'));
    expect([repeat.status, replayed(repeat)]).toEqual([200, true]);
    expect(writes(two.first).map(({ status, aborted }) => [status, aborted])).toEqual([[200, false]]);
  });

  test('reject keyed writes while Redis is unavailable, and pass writes without a key', async () => {
    await using redis = await redisServer();
    await using two = await replicas(1, redis.url);
    const gateway = two.first;
    await until('the quota is known', async () => (await gateway.metric('patchgate_quota_slots_in_use')) > 0);
    await redis.kill();
    const wait = { Prefer: 'wait=10' };
    const without = await gateway.fetch(START, { method: 'POST', body: '{}', headers: wait });
    expect(without.status).toBe(200);
    const rejected = await gateway.fetch(START, startWith('away', { headers: wait }));
    expect([rejected.status, rejected.headers.get('retry-after')]).toEqual([503, '1']);
    const problem = (await rejected.json()) as { code: string; detail: string };
    expect(problem.code).toBe('state_unavailable');
    expect(problem.detail).toContain('Idempotency-Key');
    expect(writes(gateway)).toHaveLength(1);
    expect(await gateway.metric('patchgate_idempotency_total', { outcome: 'unavailable' })).toBe(1);
    await redis.start();
    await until('Redis is back', async () => (await gateway.metric('patchgate_redis_up')) === 1);
    expect((await gateway.fetch(START, startWith('away', { headers: wait }))).status).toBe(200);
  });

  test('send a response that cannot be stored, and store it when Redis is back', async () => {
    await using redis = await redisServer();
    await using two = await replicas(1, redis.url);
    const gateway = two.first;
    two.simulator.switches.responseLatency = { kind: 'fixed', ms: 300 };
    const requests = gateway.fetch(START, startWith('unkept'));
    await eventually(() => writes(gateway).length === 1, 'the request is under way');
    redis.stop();
    const first = await requests;
    expect([first.status, replayed(first)]).toEqual([200, false]);
    redis.resume();
    await until('stored', async () => {
      const repeat = await gateway.fetch(START, startWith('unkept', { headers: { Prefer: 'wait=5' } }));
      return repeat.status === 200 && replayed(repeat);
    });
    expect(writes(gateway)).toHaveLength(1);
    const warned = gateway.logs().filter((line) => String(line['msg']).includes('could not be stored'));
    expect(warned).toHaveLength(1);
  });
});

describe('a first request with an unknown outcome', () => {
  test.each([
    ['a timeout', { kind: 'stall', when: 'before' }, 504, 'upstream_timeout'],
    ['a reset', { kind: 'reset', when: 'before' }, 502, 'upstream_protocol'],
    ['a reset within the response', { kind: 'reset', when: 'after' }, 502, 'upstream_protocol'],
    ['a truncated response', { kind: 'truncate', framing: 'length' }, 502, 'upstream_protocol'],
    ['a response that never ends', { kind: 'stall', when: 'body' }, 502, 'upstream_protocol'],
    ['bytes that are not HTTP', { kind: 'garbage' }, 502, 'upstream_protocol'],
  ] as const)('is not sent a second time: %s', async (_, fault, status, code) => {
    await using gateway = await run({
      config: (origin) =>
        configuration(origin, { upstreams: { core: { origin }, start: { origin, timeout: '400ms' } } }),
    });
    gateway.simulator.fault({ match: 'POST /api/v1/**', times: 1, fault, where: 'response' });
    const first = await gateway.fetch(START, startWith('lost'));
    expect([first.status, replayed(first), await codeOf(first)]).toEqual([status, false, code]);
    for (let i = 0; i < 2; i++) {
      const repeat = await gateway.fetch(START, startWith('lost'));
      expect([repeat.status, replayed(repeat)]).toEqual([504, true]);
      expect(await repeat.json()).toMatchObject({
        code: 'upstream_timeout',
        detail: expect.stringContaining('is not known'),
      });
    }
    expect(writes(gateway)).toHaveLength(1);
  });
});

describe('a caller that disconnects', () => {
  test('while its write is in progress gets the first response when it repeats', async () => {
    await using gateway = await alone();
    gateway.simulator.switches.responseLatency = { kind: 'fixed', ms: 300 };
    const controller = new AbortController();
    const aborted = gateway.fetch(START, startWith('left', controller)).catch((error: Error) => error.name);
    await eventually(() => writes(gateway).length === 1, 'the request is under way');
    controller.abort();
    expect(await aborted).toBe('AbortError');
    let repeat = await gateway.fetch(START, startWith('left'));
    expect([repeat.status, await codeOf(repeat)]).toEqual([409, 'idempotency_conflict']);
    await until('completed', async () => {
      repeat = await gateway.fetch(START, startWith('left'));
      return repeat.status !== 409;
    });
    expect([repeat.status, replayed(repeat)]).toEqual([200, true]);
    expect(writes(gateway).map(({ status, aborted }) => [status, aborted])).toEqual([[200, false]]);
  });

  test('without a key cancels its request', async () => {
    await using gateway = await alone();
    gateway.simulator.fault({ match: 'POST /api/v1/**', fault: { kind: 'stall', when: 'before' } });
    const controller = new AbortController();
    const aborted = gateway.fetch(START, { method: 'POST', signal: controller.signal }).catch(() => {});
    await eventually(() => writes(gateway).length === 1, 'the request is under way');
    controller.abort();
    await aborted;
    await eventually(() => writes(gateway)[0]?.aborted === true, 'cancelled');
  });

  test('while a rejected credential is replaced has its write completed with the next one', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY, loginAt(upstream)] } },
        }),
    });
    gateway.simulator.switches.responseLatency = { kind: 'fixed', ms: 300 };
    gateway.simulator.credentials.revokeKey('primary');
    const controller = new AbortController();
    const aborted = gateway.fetch(START, startWith('left', controller)).catch(() => {});
    const logins = () => gateway.simulator.arrivals().filter(({ target }) => target === '/fabric/api/login');
    await eventually(() => logins().length === 1, 'the next is being fetched');
    controller.abort();
    await aborted;
    let repeat = await gateway.fetch(START, startWith('left'));
    await until('completed', async () => {
      repeat = await gateway.fetch(START, startWith('left'));
      return repeat.status !== 409;
    });
    expect([repeat.status, replayed(repeat)]).toEqual([200, true]);
    expect(writes(gateway).map(({ status }) => status)).toEqual([401, 200, 200]);
  });

  test('while it waits for a slot cancels its request, and releases the key', async () => {
    const slow = { ...TENANTS.billing, quota: { rate: 60, burst: 1, maxWait: '10s' } };
    await using gateway = await run({ config: (upstream) => configuration(upstream, { tenants: { billing: slow } }) });
    await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=10' } });
    const controller = new AbortController();
    const aborted = gateway.fetch(START, startWith('waiting', controller)).catch(() => {});
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'it waits');
    controller.abort();
    await aborted;
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 0, 'it has gone');
    const again = await gateway.fetch(START, startWith('waiting', { body: '{"payload":"another"}' }));
    expect([again.status, replayed(again)]).toEqual([200, false]);
    expect(writes(gateway)).toHaveLength(1);
  });
});

describe('a key', () => {
  test('is sent to the upstream unchanged', async () => {
    await using gateway = await alone();
    await gateway.fetch(START, startWith('"as it came"'.replaceAll(' ', '-')));
    expect(arrived(writes(gateway)[0]?.headers ?? [], 'idempotency-key')).toBe('"as-it-came"');
  });

  test('belongs to one request: another body is 422 and not sent', async () => {
    await using gateway = await alone();
    await gateway.fetch(START, startWith('one'));
    const mismatch = await gateway.fetch(START, startWith('one', { body: '{"payload":"y"}' }));
    expect([mismatch.status, await codeOf(mismatch)]).toEqual([422, 'idempotency_mismatch']);
    expect(writes(gateway)).toHaveLength(1);
    expect(await gateway.metric('patchgate_idempotency_total', { outcome: 'mismatch' })).toBe(1);
  });

  test('belongs to one tenant: other tenants may use the same', async () => {
    await using gateway = await alone();
    for (const tenant of [BILLING_KEY, OTHER_KEY]) {
      const first = await gateway.fetch(START, startWith('one', { headers: { Authorization: tenant } }));
      expect([first.status, replayed(first)]).toEqual([200, false]);
    }
    expect(writes(gateway)).toHaveLength(2);
  });

  test('that is malformed is 400 and not sent', async () => {
    await using gateway = await alone();
    for (const key of ['a b', '"open', 'k'.repeat(256), 'a, b']) {
      const rejected = await gateway.fetch(START, startWith(key));
      const problem = (await rejected.json()) as { code: string; detail: string };
      expect([rejected.status, problem.code]).toEqual([400, 'bad_request']);
      expect(problem.detail).toContain('Idempotency-Key');
    }
    expect(writes(gateway)).toHaveLength(0);
  });

  test('is ignored on a read', async () => {
    await using gateway = await alone();
    for (let i = 0; i < 2; i++) {
      const read = await gateway.fetch('/api/v1/scripts', {
        headers: { 'Idempotency-Key': 'a b', 'Cache-Control': 'no-store' },
      });
      expect([read.status, replayed(read)]).toEqual([200, false]);
    }
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('is released when the quota rejects its request', async () => {
    const small = { ...TENANTS.billing, quota: { rate: 60, burst: 1, maxWait: '0s' } };
    await using gateway = await run({ config: (upstream) => configuration(upstream, { tenants: { billing: small } }) });
    await gateway.fetch('/api/v1/flow-runs', { headers: { Prefer: 'wait=10' } });
    const rejected = await gateway.fetch(START, startWith('rejected'));
    expect([rejected.status, await codeOf(rejected)]).toEqual([429, 'tenant_quota']);
    const again = await gateway.fetch(START, startWith('rejected', { headers: { Prefer: 'wait=10' } }));
    expect([again.status, replayed(again)]).toEqual([200, false]);
  });

  test('is remembered for a day, and no longer', async () => {
    const clock = new ManualClock(Date.now());
    await using gateway = await run({
      clock: { ...systemClock, now: () => clock.now(), monotonic: () => clock.monotonic() },
      config: (upstream) => configuration(upstream, { tenants }),
    });
    await gateway.fetch(START, startWith('daily'));
    clock.advance(86_399_000);
    expect(replayed(await gateway.fetch(START, startWith('daily')))).toBe(true);
    clock.advance(1_001);
    expect(replayed(await gateway.fetch(START, startWith('daily')))).toBe(false);
    expect(writes(gateway)).toHaveLength(2);
  });
});

describe('a body', () => {
  test('of unknown size is sent byte for byte and recognised in a repeat; one that is too large releases the key', async () => {
    await using gateway = await alone({ limits: { body: '3MiB', bufferedBody: '1KiB' } });
    const large = Buffer.alloc(2_000_000, 'large');
    const upload = (body: Buffer) =>
      gateway.fetch('/api/v1/data-pool', {
        method: 'POST',
        headers: { 'Idempotency-Key': 'upload', 'Content-Type': 'text/plain' },
        body: new Blob([new Uint8Array(body)]).stream(),
        duplex: 'half',
      } as RequestInit);
    expect((await upload(Buffer.alloc(3_200_000))).status).toBe(413);
    const first = await upload(large);
    expect(replayed(first)).toBe(false);
    const repeat = await upload(large);
    expect([repeat.status, replayed(repeat)]).toEqual([first.status, true]);
    expect(writes(gateway).map(({ bodySha256 }) => bodySha256)).toEqual([
      createHash('sha256').update(large).digest('hex'),
    ]);
  });

  test('of any size is sent again after a 401', async () => {
    await using gateway = await alone({ limits: { bufferedBody: '1KiB' } });
    gateway.simulator.credentials.revokeKey('primary');
    const body = JSON.stringify({ payload: 'x'.repeat(100_000) });
    expect((await gateway.fetch(START, startWith('large', { body }))).status).toBe(200);
    expect(writes(gateway).map(({ status, bodyBytes }) => [status, bodyBytes])).toEqual([
      [401, body.length],
      [200, body.length],
    ]);
  });

  test('of a response too large to store goes to the first caller complete; a repeat learns that the write was carried out', async () => {
    await using gateway = await alone({ idempotency: { maxResponse: '1KiB' } });
    const body = 'x'.repeat(300_000);
    gateway.simulator.fault({ match: 'POST /api/v1/**', times: 1, fault: { kind: 'status', status: 202, body } });
    const first = await gateway.fetch(START, startWith('large'));
    expect([first.status, await first.text()]).toEqual([202, body]);
    const repeat = await gateway.fetch(START, startWith('large'));
    expect([repeat.status, replayed(repeat)]).toEqual([409, true]);
    expect(await repeat.json()).toMatchObject({
      code: 'idempotency_conflict',
      detail: expect.stringContaining('status 202'),
    });
    expect(writes(gateway)).toHaveLength(1);
  });

  test('of responses is stored in this process up to idempotency.memory; a repeat of an older write gets 409', async () => {
    await using gateway = await alone({ idempotency: { memory: '1MiB' } });
    const fault = { kind: 'status', status: 200, body: 'x'.repeat(700_000) } as const;
    gateway.simulator.fault({ match: 'POST /api/v1/**', fault });
    const send = async (key: string) => {
      const response = await gateway.fetch(START, startWith(key));
      return [response.status, replayed(response)];
    };
    expect([await send('a'), await send('a'), await send('b'), await send('a'), await send('b')]).toEqual([
      [200, false],
      [200, true],
      [200, false],
      [409, true],
      [200, true],
    ]);
    expect(writes(gateway)).toHaveLength(2);
  });
});
