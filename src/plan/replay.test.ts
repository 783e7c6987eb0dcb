import { describe, expect, test } from 'vitest';
import { type LineFacts, planOf } from '../../test/support/access-lines.ts';

/** So many requests, one every `everyMs`. */
function requests(count: number, everyMs: number, facts: (index: number) => Partial<LineFacts> = () => ({})) {
  return Array.from({ length: count }, (_, index) => ({ endMs: index * everyMs + 100, ...facts(index) }));
}

/** A path that no other request shares: equal requests that wait become one. */
const own = (index: number) => ({ path: `/api/v1/scripts/${index}` });
const account = (quota: Record<string, unknown>, more: Record<string, unknown> = {}) => ({
  accounts: { main: { quota, credentials: [{ id: 'p', apiKey: 'fake-key' }], ...more } },
});
const tenants = (quota: Record<string, unknown>, more: Record<string, unknown> = {}) => ({
  tenants: { billing: { quota, ...more } },
});

describe('what is predicted for a tenant', () => {
  test('a rate that admits all of it changes nothing', async () => {
    const { tenants: found, accounts } = await planOf(requests(100, 1_000));
    const all = { requests: 100, rejections: {}, waitMs: { p50: 0, p95: 0 }, upstreamRequests: 100 };
    expect(found).toEqual({ billing: { recorded: all, predicted: all } });
    expect(accounts['main']).toEqual({ recorded: all, predicted: all });
  });

  test('a lower rate rejects what it does not admit: its burst, and the rate of each minute', async () => {
    const quota = { rate: 30, burst: 10, maxWait: '0s' };
    const { tenants: found } = await planOf(requests(300, 1_000), tenants(quota));
    expect(found['billing']?.recorded).toMatchObject({ rejections: {}, upstreamRequests: 300 });
    const sent = found['billing']?.predicted.upstreamRequests ?? 0;
    expect(Math.abs(sent - (10 + 150))).toBeLessThanOrEqual(2);
    expect(found['billing']?.predicted.rejections).toEqual({ tenant_quota: 300 - sent });
  });

  test('a higher rate sends the requests that were rejected, and their callers wait no more', async () => {
    const rejected = { status: 429, code: 'queue_timeout', waitMs: 5_000, durationMs: 5_000, upstreamMs: null };
    const lines = requests(100, 1_000, (index) => (index % 2 === 0 ? rejected : { waitMs: 2_500, durationMs: 2_600 }));
    const { recorded, predicted } = (await planOf(lines, tenants({ rate: 120, burst: 50 }))).tenants['billing'] ?? {};
    expect(recorded).toEqual({
      ...{ requests: 100, rejections: { queue_timeout: 50 } },
      ...{ waitMs: { p50: 2_500, p95: 5_000 }, upstreamRequests: 50 },
    });
    expect(predicted).toEqual({ requests: 100, rejections: {}, waitMs: { p50: 0, p95: 0 }, upstreamRequests: 100 });
  });

  test('the account stays below its ceiling in every minute, whatever its tenants may send', async () => {
    const quota = { limit: 60, ceiling: 50, burst: 10 };
    const lines = requests(600, 500, (index) => ({ tenant: index % 3 === 0 ? 'reader' : 'billing' }));
    const { accounts, tenants: found } = await planOf(lines, account(quota));
    const sent = accounts['main']?.predicted.upstreamRequests ?? 0;
    expect(sent).toBeLessThanOrEqual(50 * 6);
    expect(sent).toBeGreaterThan(0.95 * 50 * 5);
    // Equal weights: both want more than half, or less than it is fair.
    expect(found['reader']?.predicted.upstreamRequests).toBeGreaterThan(0.45 * sent);
  });

  test('the wait that callers asked for counts', async () => {
    const waiting = async (preferWaitMs: number) =>
      (
        await planOf(
          requests(120, 500, (index) => ({ preferWaitMs, ...own(index) })),
          tenants({ rate: 60, burst: 1, maxWait: '3s' }),
        )
      ).tenants['billing']?.predicted;
    expect(await waiting(0)).toMatchObject({ rejections: { tenant_quota: 60 }, waitMs: { p95: 0 } });
    const patient = await waiting(20_000);
    expect(patient?.waitMs.p95).toBeGreaterThan(10_000);
  });

  test('the urgency that callers asked for counts', async () => {
    // Four are patient. Three came a moment later, and left after three and a half seconds.
    const left = { status: 499, code: 'client_closed', durationMs: 3_500, upstreamMs: null };
    const inVain = async (urgency: number) => {
      const lines = requests(7, 10, (index) =>
        index < 4
          ? { urgency: 5, preferWaitMs: 30_000, ...own(index) }
          : { urgency, ...left, ...own(index), endMs: 3_600 },
      );
      const { predicted } =
        (await planOf(lines, tenants({ rate: 60, burst: 1, maxWait: '10s' }))).tenants['billing'] ?? {};
      return predicted?.rejections;
    };
    expect(await inVain(0)).toEqual({});
    expect(await inVain(7)).toEqual({ client_closed: 3 });
  });

  test('a budget ends what matches it, and its use stands beside what was used', async () => {
    const budgets = { starts: { match: ['POST /api/v1/flows/*/start'], limit: 25, per: 'day' } };
    const lines = requests(80, 2_000, (index) =>
      index % 2 === 0 ? { method: 'POST', path: `/api/v1/flows/${index}/start`, cache: 'none' } : {},
    );
    const { tenants: found, accounts } = await planOf(lines, account({}, { budgets }));
    expect(found['billing']?.predicted).toMatchObject({
      ...{ rejections: { budget_exhausted: 15 }, upstreamRequests: 65 },
      budgets: { starts: { used: 25, limit: null, period: '2026-11-02' } },
    });
    expect(accounts['main']?.recorded.budgets).toEqual({ starts: { used: 40, limit: 25, period: '2026-11-02' } });
  });

  test('a tenant of several accounts is compared in each, by the path that its callers send', async () => {
    const core = 'https://core.example.test';
    const config = {
      accounts: {
        main: { quota: { limit: 240 }, credentials: [{ id: 'p', apiKey: 'fake-key' }] },
        hooks: {
          quota: { limit: 120, ceiling: 100 },
          budgets: { calls: { match: ['POST /callbacks/**'], limit: 3, per: 'day' } },
          credentials: [{ id: 'orders', header: { name: 'X-Fake', value: 'fake-value' } }],
        },
      },
      upstreams: { core: { account: 'main', origin: core }, hooks: { account: 'hooks', origin: core } },
      routes: [
        { match: '* /callbacks/orders', upstream: 'hooks', rewrite: '/api/v1/acme/42', credential: 'orders' },
        { match: '* /api/v1/**', upstream: 'core' },
      ],
      tenants: { billing: { accounts: ['main', 'hooks'] } },
    };
    const hook = { method: 'POST', path: '/callbacks/orders', account: 'hooks', cache: 'none' };
    const { accounts } = await planOf(
      requests(10, 1_000, (index) => (index % 2 === 0 ? hook : {})),
      config,
    );
    expect(accounts['main']?.predicted).toMatchObject({ requests: 5, upstreamRequests: 5 });
    expect(accounts['hooks']?.predicted).toMatchObject({
      ...{ requests: 5, rejections: { budget_exhausted: 2 }, upstreamRequests: 3 },
      budgets: { calls: { used: 3, limit: 3 } },
    });
    expect(accounts['hooks']?.recorded.budgets).toMatchObject({ calls: { used: 5 } });
  });

  test('a budget of a day is shown for the day of its greatest use, though the log goes on', async () => {
    const budgets = { all: { match: ['* /api/v1/**'], limit: 1_000, per: 'day' } };
    const day = 86_400_000;
    const lines = [...requests(30, 1_000), ...requests(5, 1_000, (index) => ({ endMs: day + 1_000 + index }))];
    const { accounts } = await planOf(lines, account({}, { budgets }));
    expect(accounts['main']?.predicted.budgets).toEqual({ all: { used: 30, limit: 1_000, period: '2026-11-02' } });
  });
});

describe('the cache', () => {
  const rules = { cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '30s' }] } };
  const upstreamRequests = async (lines: readonly LineFacts[], more: Record<string, unknown> = rules) =>
    (await planOf(lines, more)).tenants['billing']?.predicted.upstreamRequests;

  test('a rule saves the requests within its TTL, for each path and query of its own', async () => {
    expect(await upstreamRequests(requests(60, 1_000))).toBe(2);
    expect(await upstreamRequests(requests(60, 1_000), {})).toBe(60);
    const queries = requests(60, 1_000, (index) => ({ queryDigest: `0000000${index % 3}` }));
    expect(await upstreamRequests(queries)).toBe(6);
  });

  test('a write invalidates what it wrote to', async () => {
    const write = { endMs: 10_050, method: 'PUT', path: '/api/v1/flows/7', cache: 'none' };
    expect(await upstreamRequests([...requests(30, 1_000), write])).toBe(3);
    expect(await upstreamRequests([...requests(30, 1_000), { ...write, status: 422, upstreamStatus: 422 }])).toBe(2);
  });

  test('a request that went past the cache of itself does so again', async () => {
    const bypassed = { cache: 'bypass', bypassedByRequest: true };
    expect(await upstreamRequests(requests(20, 1_000, () => bypassed))).toBe(20);
    expect(await upstreamRequests(requests(20, 1_000, () => ({ cache: 'bypass' })))).toBe(1);
  });

  test('a renewal in the background counts, in the past as in the prediction', async () => {
    const stale = { cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '10s', staleWhileRevalidate: '1m' }] } };
    const lines = requests(60, 1_000, (index) => (index % 10 === 0 ? {} : { cache: 'hit', upstreamMs: null }));
    lines.push({ endMs: 60_500, cache: 'stale', upstreamMs: null, refreshed: true } as LineFacts);
    const { recorded, predicted } = (await planOf(lines, stale)).tenants['billing'] ?? {};
    expect(recorded?.upstreamRequests).toBe(7);
    expect(predicted?.upstreamRequests).toBeGreaterThanOrEqual(6);
    expect(predicted?.upstreamRequests).toBeLessThanOrEqual(7);
  });

  test('a response that is larger than a stored one may be is fetched each time', async () => {
    expect(await upstreamRequests(requests(10, 1_000, () => ({ bytes: 50_000_000 })))).toBe(10);
  });
});

describe('what the configuration does not know', () => {
  const codes = async (facts: Partial<LineFacts>, more: Record<string, unknown> = {}) => {
    const { tenants: found } = await planOf(
      requests(3, 1_000, () => facts),
      more,
    );
    return Object.values(found)[0]?.predicted.rejections;
  };

  test.each([
    ['a tenant', { tenant: 'gone' }, {}, { key_unknown: 3 }],
    ['a route', { path: '/other/v1/things' }, {}, { route_unknown: 3 }],
    ['a path that it denies', {}, tenants({}, { allow: ['GET /api/v1/scripts/**'] }), { route_forbidden: 3 }],
    ['a tenant that it disables', {}, tenants({}, { disabled: true }), { tenant_disabled: 3 }],
    ['a key that was removed: its tenant is still there', { key: 'removed' }, {}, {}],
  ])('%s', async (_, facts, more, expected) => {
    expect(await codes(facts, more)).toEqual(expected);
  });

  test('a key keeps its own limits', async () => {
    const keys = [{ id: 'only', sha256: 'a'.repeat(64), allow: ['GET /api/v1/scripts/**'], cidrs: ['10.1.0.0/16'] }];
    expect(await codes({}, tenants({}, { keys }))).toEqual({ address_forbidden: 3 });
    expect(await codes({ client: '10.1.0.1' }, tenants({}, { keys }))).toEqual({ route_forbidden: 3 });
    expect(await codes({ client: '10.1.0.1', path: '/api/v1/scripts' }, tenants({}, { keys }))).toEqual({});
  });
});

describe('a request is replayed as it came', () => {
  test('in the order of arrivals, which is not that of the lines', async () => {
    // The slow one came first and takes the only slot, though its line is the last.
    const lines = [
      { endMs: 60_000, durationMs: 60_000, upstreamMs: 59_000 },
      ...requests(5, 100, (index) => ({ endMs: 1_000 + index * 100, method: 'POST', cache: 'none' })),
    ];
    const config = { ...tenants({ rate: 1, burst: 1, maxWait: '0s' }), upstreams: { core: { timeout: '2m' } } };
    const { predicted } = (await planOf(lines, config)).tenants['billing'] ?? {};
    expect(predicted).toMatchObject({ rejections: { tenant_quota: 5 }, upstreamRequests: 1 });
  });

  test('a rejection for what no line says is repeated, and sends nothing', async () => {
    const lines = requests(4, 1_000, () => ({ status: 413, code: 'body_too_large', upstreamMs: null }));
    const { recorded, predicted } = (await planOf(lines)).tenants['billing'] ?? {};
    expect(predicted).toEqual(recorded);
    expect(predicted).toMatchObject({ rejections: { body_too_large: 4 }, upstreamRequests: 0 });
  });

  test('a replayed write stays free', async () => {
    const lines = requests(4, 1_000, () => ({
      method: 'POST',
      cache: 'none',
      upstreamMs: null,
      upstreamStatus: undefined,
    }));
    const { predicted } = (await planOf(lines)).tenants['billing'] ?? {};
    expect(predicted).toEqual({ requests: 4, rejections: {}, waitMs: { p50: 0, p95: 0 }, upstreamRequests: 0 });
  });

  test('a caller that disconnected while it waited has spent nothing', async () => {
    const left = { status: 499, code: 'client_closed', durationMs: 500, upstreamMs: null };
    const lines = [{ endMs: 100 }, ...requests(2, 100, (index) => ({ endMs: 800 + index * 100, ...left }))];
    const { predicted } =
      (await planOf(lines, tenants({ rate: 6, burst: 1, maxWait: '30s' }))).tenants['billing'] ?? {};
    expect(predicted).toMatchObject({ rejections: { client_closed: 2 }, upstreamRequests: 1 });
  });

  test('a shorter timeout of the upstream ends what took longer, and failures fail again', async () => {
    const slow = requests(3, 3_000, () => ({ durationMs: 5_000, upstreamMs: 5_000, method: 'POST', cache: 'none' }));
    // The next one finds the only permit free: the request before it has ended.
    const config = { upstreams: { core: { timeout: '2s', maxInFlight: 1 } }, ...tenants({ maxWait: '0s' }) };
    expect((await planOf(slow, config)).tenants['billing']?.predicted.rejections).toEqual({ upstream_timeout: 3 });
    expect((await planOf(slow)).tenants['billing']?.predicted.rejections).toEqual({});
    const failed = { status: 502, code: 'upstream_unreachable', upstreamMs: 3, upstreamStatus: undefined, attempts: 3 };
    const { recorded, predicted } = (await planOf(requests(2, 60_000, () => failed))).tenants['billing'] ?? {};
    expect(predicted).toEqual(recorded);
    expect(recorded).toMatchObject({ rejections: { upstream_unreachable: 2 }, upstreamRequests: 6 });
  });

  test('requests without a tenant belong to no tenant', async () => {
    const { tenants: found, accounts } = await planOf([
      { endMs: 1 },
      { endMs: 2, tenant: '', account: undefined, code: 'key_missing' },
    ]);
    expect([Object.keys(found), accounts['main']?.recorded.requests]).toEqual([['billing'], 1]);
  });
});
