import { describe, expect, test } from 'vitest';
import {
  BILLING_KEY,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  READER_KEY,
  run,
  sha256,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

const FIELDS = ['ratelimit-policy', 'ratelimit', 'x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'];

describe('a tenant', () => {
  test('is rejected with 429 above its own quota, with the time to come back, and nothing of it reaches upstream', async () => {
    await using gateway = await run();
    const responses: Response[] = [];
    for (let i = 0; i < 8; i++)
      responses.push(await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } }));
    expect(responses.map((each) => each.status)).toEqual([200, 200, 200, 200, 200, 429, 429, 429]);
    expect(gateway.simulator.arrivals()).toHaveLength(5);
    const refused = responses.slice(5);
    expect(await Promise.all(refused.map(codeOf))).toEqual(Array(3).fill('tenant_quota'));
    // The bucket gains one each two seconds: each request has a time of its own.
    const times = refused.map(({ headers }) => Number(headers.get('retry-after')));
    for (const [index, seconds] of times.entries()) {
      expect(seconds).toBeGreaterThanOrEqual(2 * index + 1);
      expect(seconds).toBeLessThanOrEqual(2 * index + 2);
    }
    expect(new Set(times).size).toBe(3);
    for (const { headers } of refused) expect(headers.get('x-ratelimit-remaining')).toBe('0');
    // The other tenant is not touched by that.
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(await gateway.metric('patchgate_quota_decisions_total', { tenant: 'reader', decision: 'tenant' })).toBe(3);
  });

  test('finds its limit fields on every response: fetched, cached, rejected, whoami; and never those of the account', async () => {
    await using gateway = await run();
    const headers = { Authorization: READER_KEY };
    const answers = [
      await gateway.fetch('/api/v1/flows', { headers }),
      await gateway.fetch('/api/v1/flows', { headers }),
      await gateway.fetch('/api/v1/flow-runs/999999', { headers }),
      await gateway.fetch('/api/v1/data-pool', { method: 'POST', headers }),
      await gateway.fetch('/_gateway/whoami', { headers }),
    ];
    expect(answers.map((each) => each.status)).toEqual([200, 200, 404, 403, 200]);
    for (const each of answers) {
      for (const field of FIELDS) expect(each.headers.get(field), field).not.toBeNull();
      expect(each.headers.get('x-ratelimit-limit')).toBe('5');
    }
    expect(answers.map((each) => each.headers.get('x-ratelimit-remaining'))).toEqual(['4', '4', '3', '3', '3']);
  });

  test('learns from whoami who it is, what it may do and what is left', async () => {
    await using gateway = await run();
    const response = await gateway.fetch('/_gateway/whoami', { headers: { Authorization: READER_KEY } });
    expect(await response.json()).toMatchObject({
      tenant: 'reader',
      account: 'main',
      key: { id: 'only', expires: null },
      permissions: { allow: ['GET /api/v1/**'] },
      quota: { requestsPerMinute: 30, burst: 5, remaining: 5 },
    });
    expect(gateway.simulator.arrivals()).toEqual([]);
  });
});

describe('the account', () => {
  test('never gets more than the ceiling, whatever the tenants ask for', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          accounts: { main: { quota: { limit: 40, ceiling: 30, burst: 100 }, credentials: [PRIMARY] } },
        }),
      simulator: { switches: { limit: 40, responseLatency: { kind: 'uniform', minMs: 1, maxMs: 30 } } },
    });
    const statuses = await Promise.all(
      Array.from({ length: 100 }, async () => (await gateway.fetch('/api/v1/flow-runs')).status),
    );
    // A burst takes half of it, and those that are a little later what the pace allows until then.
    const served = statuses.filter((status) => status === 200).length;
    expect(served).toBeGreaterThanOrEqual(14);
    expect(served).toBeLessThanOrEqual(29);
    expect(statuses.filter((status) => status === 429)).toHaveLength(100 - served);
    expect(gateway.simulator.stats()).toMatchObject({ arrived: served, throttled: 0 });
    expect(await codeOf(await gateway.fetch('/api/v1/flow-runs'))).toBe('account_quota');
  });

  test('is held for all tenants when upstream says 429, until the time it gave; its own words do not come down', async () => {
    await using gateway = await run();
    gateway.simulator.fault({
      match: 'GET /api/v1/**',
      times: 1,
      fault: {
        kind: 'status',
        status: 429,
        headers: { 'Retry-After': '30', 'X-RateLimit-Limit': '240', 'X-RateLimit-Remaining': '0' },
        body: '{"message":"Too Many Attempts."}',
      },
    });
    const first = await gateway.fetch('/api/v1/flow-runs');
    expect([first.status, await codeOf(first)]).toEqual([429, 'upstream_cooldown']);
    expect(Number(first.headers.get('retry-after'))).toBeGreaterThanOrEqual(30);
    expect(first.headers.get('x-ratelimit-limit')).toBe('200');
    const other = await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    expect(await codeOf(other)).toBe('upstream_cooldown');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect(await gateway.metric('patchgate_upstream_throttled_total', { account: 'main' })).toBe(1);
    expect(await gateway.metric('patchgate_rejections_total', { code: 'upstream_cooldown' })).toBe(2);
  });

  test('is not asked again and again of an upstream that refuses with Retry-After: 0', async () => {
    const clock = new ManualClock();
    await using gateway = await run({ clock });
    const fault = { kind: 'status', status: 429, headers: { 'Retry-After': '0' }, body: '' } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/**', fault });
    const arrived: number[] = [];
    for (let second = 0; second < 20; second += 1) {
      for (let i = 0; i < 10; i += 1) expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(429);
      arrived.push(gateway.simulator.arrivals().length);
      clock.advance(1_001);
    }
    // After 1, 2, 4, 6 and 6 s.
    expect(arrived).toEqual([1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 6]);
  });

  test('that others use as well is shown, and no more is sent than is left', async () => {
    await using gateway = await run();
    gateway.simulator.useExternally(220);
    await gateway.fetch('/api/v1/flow-runs');
    expect(await gateway.metric('patchgate_quota_external_usage', { account: 'main' })).toBe(220);
    const statuses = await Promise.all(
      Array.from({ length: 20 }, async () => (await gateway.fetch('/api/v1/flow-runs')).status),
    );
    expect(gateway.simulator.stats().throttled).toBe(0);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(1);
    expect(statuses).toContain(429);
  });

  test('malformed limit fields of upstream are ignored and counted', async () => {
    await using gateway = await run();
    gateway.simulator.fault({
      match: 'GET /api/v1/**',
      times: 1,
      fault: {
        kind: 'status',
        status: 200,
        body: '{}',
        headers: { 'X-RateLimit-Remaining': '-1', 'X-RateLimit-Limit': 'many' },
      },
    });
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(await gateway.metric('patchgate_upstream_invalid_headers_total')).toBe(2);
    expect(await gateway.metric('patchgate_quota_external_usage')).toBe(0);
  });
});

describe('a request without a slot', () => {
  const patient =
    (more: Record<string, unknown> = {}) =>
    (upstream: string) =>
      configuration(upstream, {
        tenants: {
          billing: {
            keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }],
            quota: { rate: 600, burst: 1, maxWait: '5s', ...more },
          },
        },
      });

  test('waits for its turn, and is answered', async () => {
    await using gateway = await run({ config: patient() });
    const responses = await Promise.all(Array.from({ length: 6 }, () => gateway.fetch('/api/v1/flow-runs')));
    expect(responses.map((each) => each.status)).toEqual(Array(6).fill(200));
    const waits = gateway.logs().map((line) => Number(line['waitMs']));
    expect(Math.max(...waits)).toBeGreaterThan(300);
    expect(await gateway.metric('patchgate_quota_wait_seconds_count', { tenant: 'billing' })).toBe(7);
  });

  test('waits as long as it says: `Prefer: wait`, within maxWait or beyond', async () => {
    await using gateway = await run({ config: patient({ maxWait: '0s', rate: 120 }) });
    const statuses = async (prefer?: string) =>
      (
        await Promise.all(
          [1, 2].map(() => gateway.fetch('/api/v1/flow-runs', { headers: prefer ? { Prefer: prefer } : {} })),
        )
      )
        .map((each) => each.status)
        .sort();
    expect(await statuses('wait=5')).toEqual([200, 200]);
    expect(await statuses()).not.toEqual([200, 200]);
  });

  test('after a cold start many may come at once, and all are answered', async () => {
    await using gateway = await run({ cold: true, config: patient({ rate: 10_000, burst: 100 }) });
    const responses = await Promise.all(Array.from({ length: 20 }, () => gateway.fetch('/api/v1/flow-runs')));
    expect(responses.map((each) => each.status)).toEqual(Array(20).fill(200));
  });

  test('whose caller leaves is forgotten, and has cost nothing', async () => {
    await using gateway = await run({ config: patient({ rate: 30 }) });
    const abort = new AbortController();
    const waiting = gateway.fetch('/api/v1/flow-runs', { signal: abort.signal }).catch((error) => error);
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'one waiting');
    abort.abort();
    await waiting;
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 0, 'no request waits');
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  const draining = (rate: number, timeout: string) => (upstream: string) => ({
    ...patient({ rate })(upstream),
    drain: { delay: '0ms', timeout },
  });

  test('goes on waiting while the gateway drains, and is sent when its turn comes', async () => {
    await using gateway = await run({ config: draining(60, '20s') });
    const waiting = gateway.fetch('/api/v1/flow-runs');
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'one waiting');
    await gateway.drain();
    expect((await waiting).status).toBe(200);
  });

  test('is rejected when the drain ends before its turn: 503, to be sent again', async () => {
    await using gateway = await run({ config: draining(20, '400ms') });
    const waiting = gateway.fetch('/api/v1/flow-runs');
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'one waiting');
    await gateway.drain();
    const response = await waiting;
    expect([response.status, await codeOf(response), response.headers.get('retry-after')]).toEqual([
      503,
      'draining',
      '1',
    ]);
  });
});
