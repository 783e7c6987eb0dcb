import { describe, expect, test } from 'vitest';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import {
  type Config,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  SPARE,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

const START = 'POST /api/v1/flows/*/start/**';
const budgets = (more: Config = {}) => ({ operations: { match: [START, 'GET /api/v1/flows/**'], limit: 5, ...more } });

/** A gateway whose account has a budget of five starts. */
const open = (more: Config = {}, { part, account = {} }: { part?: number; account?: Config } = {}) =>
  run({
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY, SPARE], budgets: budgets(), ...account } },
        tenants: {
          ...TENANTS,
          billing: { ...TENANTS.billing, ...(part !== undefined && { budgets: { operations: part } }) },
        },
      }),
    ...more,
  });
const start = (gateway: Running, headers: Record<string, string> = {}) =>
  gateway.fetch('/api/v1/flows/1/start', {
    ...{ method: 'POST', body: '{"payload":"x"}' },
    headers: { 'Content-Type': 'application/json', ...headers },
  });
const statuses = async (count: number, send: () => Promise<Response>) =>
  (await Promise.all(Array.from({ length: count }, send))).map(({ status }) => status).sort();
const starts = ({ simulator }: Running) => simulator.arrivals().filter(({ method }) => method === 'POST');

describe('a request above a budget', () => {
  test('gets 429 budget_exhausted with the time to the reset, and does not arrive', async () => {
    const clock = new ManualClock(Date.parse('2026-11-30T22:59:59.500Z'));
    await using gateway = await open({ clock });
    expect(await statuses(9, () => start(gateway))).toEqual([200, 200, 200, 200, 200, 429, 429, 429, 429]);
    const refused = await start(gateway);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('3601');
    expect(await refused.json()).toMatchObject({
      code: 'budget_exhausted',
      detail:
        'Nothing is left of the budget "operations" until its reset at 2026-12-01T00:00:00Z. Retry after the time given.',
    });
    expect(starts(gateway)).toHaveLength(5);
    // Others than those that count pass.
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    clock.advance(3_600_500);
    expect((await start(gateway)).status).toBe(200);
    expect(await gateway.metric('patchgate_quota_decisions_total', { tenant: 'billing', decision: 'budget' })).toBe(5);
  });

  test('waits for a reset that is within its wait', async () => {
    const clock = new ManualClock(Date.parse('2026-11-30T23:59:50Z'));
    await using gateway = await open({ clock });
    expect(await statuses(5, () => start(gateway))).toEqual(Array(5).fill(200));
    const waiting = start(gateway, { Prefer: 'wait=20' });
    const impatient = await start(gateway, { Prefer: 'wait=5' });
    expect([impatient.status, impatient.headers.get('retry-after')]).toEqual([429, '10']);
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'one waits');
    clock.advance(10_000);
    expect((await waiting).status).toBe(200);
  });
});

describe('nothing is taken of a budget', () => {
  const used = async (gateway: Running) => {
    const body = (await (await gateway.fetch('/_gateway/whoami')).json()) as {
      budgets: Record<string, { used: number }>;
    };
    return body.budgets['operations']?.used;
  };

  test('by cached, coalesced and replayed responses', async () => {
    await using gateway = await open();
    await Promise.all(Array.from({ length: 8 }, () => gateway.fetch('/api/v1/flows')));
    await gateway.fetch('/api/v1/flows');
    expect(await used(gateway)).toBe(1);
    for (let i = 0; i < 3; i++) await start(gateway, { 'Idempotency-Key': 'one' });
    expect(await used(gateway)).toBe(2);
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('by a request that provably was not sent', async () => {
    const closed = 'http://127.0.0.1:1';
    await using gateway = await run({
      config: (upstream) => ({
        ...configuration(upstream, {
          accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY], budgets: budgets() } },
          upstreams: { core: { origin: upstream }, start: { origin: closed, breaker: { enabled: false } } },
        }),
      }),
    });
    for (let i = 0; i < 9; i++) expect((await start(gateway)).status).toBe(502);
    expect(await used(gateway)).toBe(0);
  });

  test('by a request that another limit refuses', async () => {
    await using gateway = await open({}, { account: { quota: { limit: 240, ceiling: 3, burst: 3 } } });
    const sent = (await statuses(9, () => start(gateway))).filter((status) => status === 200).length;
    expect(sent).toBeLessThanOrEqual(3);
    expect(await used(gateway)).toBe(sent);
  });
});

test('each attempt that is sent counts', async () => {
  const retries = { max: 2, budget: 100 };
  await using gateway = await run({
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY], budgets: budgets() } },
        upstreams: { core: { origin: upstream, retries }, start: { origin: upstream } },
      }),
  });
  gateway.simulator.fault({ match: 'GET /api/v1/**', fault: { kind: 'status', status: 503 }, times: 2 });
  const response = await gateway.fetch('/api/v1/flows/1');
  expect(response.status).toBe(200);
  expect(gateway.simulator.arrivals()).toHaveLength(3);
  const whoami = (await (await gateway.fetch('/_gateway/whoami')).json()) as { budgets: unknown };
  expect(whoami.budgets).toMatchObject({ operations: { used: 3, left: 2 } });
});

test('a write with an Idempotency-Key that found nothing left is sent after the reset', async () => {
  const clock = new ManualClock(Date.parse('2026-11-30T23:00:00Z'));
  await using gateway = await open({ clock });
  await statuses(5, () => start(gateway));
  const keyed = () => start(gateway, { 'Idempotency-Key': 'later' });
  expect(await codeOf(await keyed())).toBe('budget_exhausted');
  clock.advance(3_600_000);
  const sent = await keyed();
  expect([sent.status, sent.headers.get('idempotency-replayed')]).toEqual([200, null]);
});

test('a stale response is served while nothing is left', async () => {
  const clock = new ManualClock();
  await using gateway = await run({
    clock,
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY], budgets: budgets({ limit: 1 }) } },
        cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '1s', staleIfThrottled: '10m' }] },
      }),
  });
  expect((await gateway.fetch('/api/v1/flows')).status).toBe(200);
  clock.advance(5_000);
  const stale = await gateway.fetch('/api/v1/flows');
  expect([stale.status, stale.headers.get('cache-status')]).toEqual([200, expect.stringContaining('stale')]);
});

describe('a tenant', () => {
  test('finds its budgets in the limit fields of every response, and in whoami', async () => {
    const clock = new ManualClock(Date.parse('2026-11-30T00:00:00Z'));
    await using gateway = await open({ clock }, { part: 3 });
    const sent = await start(gateway);
    expect(sent.headers.get('ratelimit-policy')).toBe('"tenant";q=235;w=60, "operations";q=3;w=2592000');
    expect(sent.headers.get('ratelimit')).toMatch(/^"tenant";r=\d+;t=\d+, "operations";r=2;t=86400$/);
    const whoami = (await (await gateway.fetch('/_gateway/whoami')).json()) as { budgets: unknown };
    expect(whoami.budgets).toEqual({
      operations: {
        ...{ per: 'month', timeZone: 'UTC', limit: 3, used: 1, left: 2 },
        resets: '2026-12-01T00:00:00.000Z',
      },
    });
    // Without a part of its own it has what the account has.
    const other = await gateway.fetch('/_gateway/whoami', { headers: { Authorization: READER_KEY } });
    expect(other.headers.get('ratelimit')).toContain('"operations";r=4;t=86400');
  });

  test('learns whose budget is used up', async () => {
    await using gateway = await open({}, { part: 3 });
    expect(await statuses(5, () => start(gateway))).toEqual([200, 200, 200, 429, 429]);
    const refused = (await (await start(gateway)).json()) as { detail: string };
    expect(refused.detail).toContain(`Nothing is left of your tenant's part of the budget "operations"`);
  });

  test('goes on with what it has used after a reload that gives it more', async () => {
    await using gateway = await open({}, { part: 2 });
    expect(await statuses(3, () => start(gateway))).toEqual([200, 200, 429]);
    const tenants = { ...TENANTS, billing: { ...TENANTS.billing, budgets: { operations: 4 } } };
    await gateway.reload((upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY, SPARE], budgets: budgets() } },
        tenants,
      }),
    );
    expect(await statuses(5, () => start(gateway))).toEqual([200, 200, 429, 429, 429]);
  });
});

test('/status has the budgets of accounts and tenants, with the projected end, and the metrics have them too', async () => {
  // Ten days of thirty are over.
  const clock = new ManualClock(Date.parse('2026-11-11T00:00:00Z'));
  await using gateway = await open({ clock }, { part: 3 });
  expect(await statuses(2, () => start(gateway))).toEqual([200, 200]);
  const status = async () => (await (await fetch(`${gateway.adminUrl}/status`)).json()) as StatusDocument;
  const DAY = 86_400_000;
  const { accounts, tenants } = await status();
  expect(accounts['main']?.budgets).toEqual({
    operations: {
      ...{ per: 'month', timeZone: 'UTC', limit: 5, used: 2, left: 3, warnAt: 4, projected: 6 },
      ...{ resets: '2026-12-01T00:00:00.000Z', resetsInMs: 20 * DAY, endsInMs: 15 * DAY },
    },
  });
  expect(tenants['billing']?.budgets['operations']).toMatchObject({ limit: 3, used: 2, left: 1, warnAt: 3 });
  expect(tenants['reader']?.budgets['operations']).toMatchObject({ limit: null, used: 0, left: 3, endsInMs: null });
  clock.stepWall(15 * DAY);
  expect((await status()).accounts['main']?.budgets['operations']).toMatchObject({ projected: 2, endsInMs: null });
  const labels = { account: 'main', budget: 'operations' };
  expect(await gateway.metric('patchgate_budget_used', labels)).toBe(2);
  expect(await gateway.metric('patchgate_budget_limit', labels)).toBe(5);
  expect(await gateway.metric('patchgate_budget_warn_at', labels)).toBe(4);
  const resets = Date.parse('2026-12-01T00:00:00Z') / 1000;
  expect(await gateway.metric('patchgate_budget_reset_timestamp_seconds', labels)).toBe(resets);
  const part = { tenant: 'billing', budget: 'operations' };
  expect(await gateway.metric('patchgate_tenant_budget_used', part)).toBe(2);
  expect(await gateway.metric('patchgate_tenant_budget_limit', part)).toBe(3);
  clock.stepWall(6 * DAY);
  expect(await gateway.metric('patchgate_budget_used', labels)).toBe(0);
});
