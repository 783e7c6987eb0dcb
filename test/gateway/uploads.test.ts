import { describe, expect, test } from 'vitest';
import {
  BILLING_KEY,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  READER_KEY,
  type RunOptions,
  run,
  runChecked,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { dial } from '../support/raw-socket.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const KiB = 1024;
const reader = { ...TENANTS.reader, allow: ['* /api/v1/**'], quota: { burst: 100, maxWait: '0s' } };
/** The quota is wide: the tests want memory to be short. */
const WIDE = {
  main: { quota: { limit: 2_400, ceiling: 2_350, burst: 400, adoptLimit: false }, credentials: [PRIMARY] },
};
const limited = (limits: object, maxWait = '0s'): NonNullable<RunOptions['config']> => {
  const billing = { ...TENANTS.billing, quota: { ...TENANTS.billing.quota, maxWait, maxInFlight: 100 } };
  return (upstream) => configuration(upstream, { limits, accounts: WIDE, tenants: { ...TENANTS, billing, reader } });
};
const head = (key: string, more: string) =>
  `POST /api/v1/flows/1/start HTTP/1.1\r\nHost: x\r\nX-API-Key: ${key}\r\n${more}\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';

describe('a chunked upload', () => {
  test('that is dripped holds neither slot nor permit, and ends with the timeout of the upstream', async () => {
    const clock = new ManualClock();
    await using gateway = await run({ clock });
    const before = await gateway.metric('patchgate_quota_slots_in_use');
    using slow = await dial(gateway.port);
    slow.write(`${head(BILLING_KEY, CHUNKED)}2\r\n{"\r\n`);
    await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 1, 'in flight');
    // The gateway has read the drops before it reads, and answers, this request.
    for (let drop = 0; drop < 5; drop++) {
      slow.write('1\r\na\r\n');
      expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
    }
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(before);
    expect(await gateway.metric('patchgate_upstream_in_flight', { upstream: 'start' })).toBe(0);
    clock.advance(2_000);
    await slow.closed();
    expect(slow.statuses()).toEqual([408]);
    expect(slow.received()).toContain('"code":"upload_timeout"');
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test('up to limits.bufferedBody is sent as one with a length, and can be sent again after a 401', async () => {
    await using gateway = await runChecked();
    gateway.simulator.credentials.revokeKey('primary');
    using caller = await dial(gateway.port);
    caller.write(`${head(BILLING_KEY, CHUNKED)}2\r\n{}\r\n`);
    caller.write('0\r\n\r\n');
    await caller.responses(1);
    expect(caller.statuses()).toEqual([200]);
    expect(gateway.simulator.arrivals().map(({ status }) => status)).toEqual([401, 200]);
    await gateway.expectUnharmed();
  });

  test('above limits.bufferedBody streams, complete', async () => {
    await using gateway = await runChecked({ config: limited({ bufferedBody: '4KiB' }) });
    const body = Buffer.alloc(300 * KiB, 'x');
    using caller = await dial(gateway.port);
    caller.write(head(BILLING_KEY, CHUNKED));
    for (let at = 0; at < body.length; at += 30 * KiB) {
      caller.write(`${(30 * KiB).toString(16)}\r\n`);
      caller.write(body.subarray(at, at + 30 * KiB));
      caller.write('\r\n');
    }
    caller.write('0\r\n\r\n');
    await caller.responses(1);
    expect(gateway.simulator.arrivals().map(({ bodyBytes }) => bodyBytes)).toEqual([body.length]);
    await gateway.expectUnharmed();
  });
});

test('an upload that streams is bounded by the timeout of the upstream, and its caller’s slowness opens no breaker', async () => {
  await using gateway = await run({
    config: (upstream) => ({
      ...limited({ bufferedBody: '4KiB' })(upstream),
      upstreams: {
        core: { origin: upstream, timeout: '300ms', breaker: { minRequests: 1 } },
        start: { origin: upstream, timeout: '300ms', breaker: { minRequests: 1, failurePercent: 1 } },
      },
    }),
  });
  using slow = await dial(gateway.port);
  slow.write(head(BILLING_KEY, 'Content-Length: 100000\r\n'));
  const dripping = setInterval(() => slow.write('x'), 20);
  try {
    await slow.responses(1);
  } finally {
    clearInterval(dripping);
  }
  expect(slow.statuses()).toEqual([408]);
  expect(await gateway.metric('patchgate_upstream_breaker_state', { upstream: 'start' })).toBe(0);
  expect((await gateway.fetch('/api/v1/flows/1/start', { method: 'POST', body: '{}' })).status).toBe(200);
});

describe('memory for bodies', () => {
  const keyed = (key: string, id: number, bytes: number) =>
    head(key, `Idempotency-Key: k-${id}\r\nContent-Length: ${bytes}\r\n`);

  test('is bounded by limits.bufferedTotal: nothing more is read, other tenants go on, and after maxWait the response is 503', async () => {
    const clock = new ManualClock();
    const total = 4 * 1024 * KiB;
    const size = 512 * KiB;
    await using gateway = await run({ clock, config: limited({ bufferedTotal: '4MiB' }, '5s') });
    gateway.simulator.fault({ match: 'POST /api/v1/**', fault: { kind: 'stall', when: 'before' } });
    const uploads = await Promise.all(Array.from({ length: 12 }, () => dial(gateway.port)));
    const body = Buffer.alloc(size, 'x');
    for (const [i, caller] of uploads.entries()) {
      caller.write(keyed(BILLING_KEY, i, size));
      caller.write(body);
    }
    // Half of the total for one tenant.
    await eventually(() => gateway.simulator.arrivals().length === total / 2 / size, 'those with room are sent');
    expect(await gateway.metric('patchgate_buffered_body_bytes')).toBe(total / 2);
    await eventually(async () => (await gateway.metric('patchgate_buffered_body_waiting')) === 8, 'the others wait');
    using other = await dial(gateway.port);
    other.write(keyed(READER_KEY, 0, size));
    other.write(body);
    await eventually(
      () => gateway.simulator.arrivals().length === total / 2 / size + 1,
      'that of another tenant is sent',
    );
    clock.advance(5_000);
    const refused = () => uploads.filter((caller) => caller.statuses().includes(503));
    await eventually(() => refused().length === 8, 'eight are refused');
    for (const caller of refused()) {
      expect(caller.received()).toContain('"code":"overloaded"');
      expect(caller.received()).toMatch(/Retry-After: [12]\r\n/);
    }
    for (const caller of [...uploads, other]) caller.socket.destroy();
    await eventually(async () => (await gateway.metric('patchgate_buffered_body_waiting')) === 0, 'none waits');
  });

  test('is waited for before a caller is asked to continue, and an upload that then finds room is sent', async () => {
    await using gateway = await runChecked({ config: limited({ bufferedTotal: '128KiB' }, '20s') });
    gateway.simulator.switches.responseLatency = { kind: 'fixed', ms: 200 };
    using first = await dial(gateway.port);
    first.write(keyed(BILLING_KEY, 1, 64 * KiB));
    first.write(Buffer.alloc(64 * KiB, 'x'));
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the first is sent');
    using second = await dial(gateway.port);
    second.write(head(BILLING_KEY, `Idempotency-Key: k-2\r\nContent-Length: 4096\r\nExpect: 100-continue\r\n`));
    await eventually(async () => (await gateway.metric('patchgate_buffered_body_waiting')) === 1, 'the second waits');
    expect(second.received()).toBe('');
    await first.responses(1);
    await eventually(() => second.statuses().includes(100), 'the second is asked to continue');
    second.write(Buffer.alloc(4096, 'x'));
    await second.responses(1);
    expect(second.statuses()).toEqual([100, 200]);
    await gateway.expectUnharmed();
    expect(await gateway.metric('patchgate_buffered_body_bytes')).toBe(0);
  });

  test('that a body with an Idempotency-Key can never have is a 413', async () => {
    await using gateway = await runChecked({ config: limited({ bufferedTotal: '128KiB' }) });
    for (const body of [Buffer.alloc(65 * KiB), new Blob([new Uint8Array(65 * KiB)]).stream()]) {
      const response = await gateway.fetch('/api/v1/flows/1/start', {
        ...{ method: 'POST', body, duplex: 'half' },
        headers: { 'Idempotency-Key': 'k' },
      } as RequestInit);
      expect([response.status, await codeOf(response)]).toEqual([413, 'body_too_large']);
    }
    await gateway.expectUnharmed();
    expect(await gateway.metric('patchgate_buffered_body_bytes')).toBe(0);
  });

  test('is left without a trace by 200 uploads that end in any way', async () => {
    await using gateway = await runChecked({ config: limited({ bufferedTotal: '512KiB' }, '20s') });
    const ends = Array.from({ length: 200 }, async (_, i) => {
      using caller = await dial(gateway.port);
      const chunked = i % 2 === 0;
      const bytes = 1 + ((i * 7_919) % 100_000);
      const key = i % 3 === 0 ? `Idempotency-Key: k-${i}\r\n` : '';
      caller.write(head(BILLING_KEY, key + (chunked ? CHUNKED : `Content-Length: ${bytes}\r\n`)));
      if (chunked) caller.write(`${bytes.toString(16)}\r\n`);
      if (i % 5 === 0) {
        caller.write(Buffer.alloc(bytes >> 1));
        caller.socket.resetAndDestroy();
        return;
      }
      caller.write(Buffer.alloc(bytes));
      if (chunked) caller.write('\r\n0\r\n\r\n');
      await caller.responses(1);
    });
    await Promise.all(ends);
    await gateway.expectUnharmed();
    expect(await gateway.metric('patchgate_buffered_body_bytes')).toBe(0);
    expect(await gateway.metric('patchgate_buffered_body_waiting')).toBe(0);
  });

  test('counts rewritten copies of cached responses too: one for each Host that a caller thinks of', async () => {
    await using gateway = await run({ config: limited({ bufferedTotal: '1MiB' }) });
    const list = '/api/v1/flows?per_page=100';
    await (await gateway.fetch(list)).arrayBuffer();
    gateway.simulator.switches.responseLatency = { kind: 'fixed', ms: 1_500 };
    using caller = await dial(gateway.port);
    const get = (path: string, host: string) =>
      `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`;
    // The first response takes its time, so that those behind it wait for their turn in memory.
    caller.write(get('/api/v1/flow-runs', 'x'));
    const asked = 100;
    for (let i = 0; i < asked; i++) caller.write(get(list, `host-${i}.test`));
    await eventually(
      async () => (await gateway.metric('patchgate_http_requests_in_flight')) === asked + 1,
      'all in flight',
    );
    const held = await gateway.metric('patchgate_buffered_body_bytes');
    expect(held).toBeGreaterThan(300 * KiB);
    expect(held).toBeLessThanOrEqual(512 * KiB);
    // Others are served meanwhile.
    expect((await gateway.fetch(list, { headers: { Authorization: `Bearer ${READER_KEY}` } })).status).toBe(200);
    await caller.responses(asked + 1);
    expect(new Set(caller.statuses())).toEqual(new Set([200, 503]));
    expect(caller.received()).toContain('"code":"overloaded"');
    await eventually(async () => (await gateway.metric('patchgate_buffered_body_bytes')) === 0, 'all is given back');
  });

  test('of a large response is a part of it: links are rewritten as it leaves', async () => {
    const body = (base: string) =>
      JSON.stringify({ data: 'x'.repeat(300 * KiB), links: { next: `${base}/api/v1/flows?page=2` } });
    await using upstream = await rawUpstream((socket) => {
      const text = body(upstream.url);
      const type = 'Content-Type: application/json\r\nX-RateLimit-Remaining: 200\r\n';
      socket.write(`HTTP/1.1 200 OK\r\n${type}Content-Length: ${text.length}\r\n\r\n${text}`);
    });
    await using gateway = await run({ config: () => limited({ bufferedTotal: '1MiB' })(upstream.url) });
    for (const cached of ['fwd=', 'hit']) {
      const response = await gateway.fetch('/api/v1/flows');
      expect(response.headers.get('cache-status')).toContain(cached);
      expect(await response.text()).toBe(body(gateway.url));
    }
    const head = await gateway.fetch('/api/v1/flows', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    await eventually(async () => (await gateway.metric('patchgate_buffered_body_bytes')) === 0, 'all is given back');
  });
});
