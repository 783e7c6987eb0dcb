import { describe, expect, test } from 'vitest';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import { FAKE_PASSWORD } from '../../src/simulator/options.ts';
import { openEventStream } from '../support/event-stream.ts';
import {
  BILLING_KEY,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  SPARE,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

const reader = { headers: { Authorization: READER_KEY } };
const textOf = async (gateway: Running) => (await fetch(`${gateway.adminUrl}/status`)).text();
const statusOf = async (gateway: Running): Promise<StatusDocument> => JSON.parse(await textOf(gateway));
const withCredentials = (credentials: (upstream: string) => unknown[]) => (upstream: string) =>
  configuration(upstream, { accounts: { main: { quota: { burst: 200 }, credentials: credentials(upstream) } } });
const ADMIN_TOKEN = 'fake-admin-token-of-the-page';
const withToken = (upstream: string, token: string) =>
  configuration(upstream, {
    listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token } },
  });

describe('/status tells', () => {
  test('which credential is in use, and which one is in backoff, for how long and why', async () => {
    await using gateway = await run();
    expect((await statusOf(gateway)).accounts['main']?.credentials).toEqual([
      {
        id: 'primary',
        kind: 'apiKey',
        named: false,
        inUse: true,
        failing: false,
        backoffMs: 0,
        reason: null,
        expiresInMs: null,
      },
      {
        id: 'spare',
        kind: 'apiKey',
        named: false,
        inUse: false,
        failing: false,
        backoffMs: 0,
        reason: null,
        expiresInMs: null,
      },
    ]);
    gateway.simulator.credentials.revokeKey('primary');
    await gateway.fetch('/api/v1/flow-runs');
    const [primary, spare] = (await statusOf(gateway)).accounts['main']?.credentials ?? [];
    expect(primary).toMatchObject({ inUse: false, failing: true, reason: 'rejected' });
    expect(primary?.backoffMs).toBeGreaterThan(50_000);
    expect(spare).toMatchObject({ inUse: true, backoffMs: 0 });
  });

  test('when a login token expires, and that none could be had', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]) });
    const [login] = (await statusOf(gateway)).accounts['main']?.credentials ?? [];
    expect(login).toMatchObject({ id: 'login', kind: 'login', inUse: true, reason: null });
    expect(login?.expiresInMs).toBeGreaterThan(60_000);
    const wrong = (upstream: string) => ({
      id: 'login',
      login: { ...loginAt(upstream).login, password: 'fake-wrong-password' },
    });
    await gateway.reload(withCredentials((upstream) => [wrong(upstream), SPARE]));
    await gateway.fetch('/api/v1/flow-runs');
    const [failed, spare] = (await statusOf(gateway)).accounts['main']?.credentials ?? [];
    expect(failed).toMatchObject({ inUse: false, reason: 'rejected', expiresInMs: null });
    expect(failed?.backoffMs).toBeGreaterThan(0);
    expect(spare).toMatchObject({ id: 'spare', inUse: true });
  });

  test('of each upstream whether it is left alone, for how long, and what is under way', async () => {
    const clock = new ManualClock();
    const broken = { minRequests: 2, failurePercent: 50, open: '5s' };
    await using gateway = await run({
      clock,
      config: (upstream) =>
        configuration(upstream, {
          upstreams: {
            core: { origin: upstream, timeout: '2s', retries: { max: 0 }, breaker: broken },
            start: { origin: upstream, timeout: '2s' },
          },
        }),
    });
    const well = { breaker: 'closed', breakerTenant: null, openForMs: 0, inFlight: 0, waiting: 0 };
    expect((await statusOf(gateway)).upstreams).toEqual({ core: well, start: well });
    gateway.simulator.fault({ match: 'GET /api/v1/**', fault: { kind: 'status', status: 502, headers: {}, body: '' } });
    for (const path of ['flow-runs', 'agents', 'flow-runs', 'agents'])
      await (await gateway.fetch(`/api/v1/${path}`)).text();
    const { core, start } = (await statusOf(gateway)).upstreams;
    expect([core?.breaker, start]).toEqual(['open', well]);
    expect(core?.openForMs).toBeGreaterThan(3_000);
    expect(core?.openForMs).toBeLessThanOrEqual(5_000);
    clock.advance(5_000);
    expect((await statusOf(gateway)).upstreams['core']).toMatchObject({ breaker: 'half-open', openForMs: 0 });
  });

  test('how long the account is held', async () => {
    await using gateway = await run();
    const fault = { kind: 'status', status: 429, headers: { 'Retry-After': '30' }, body: '' } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/**', times: 1, fault });
    await gateway.fetch('/api/v1/flow-runs');
    const { cooldownMs } = (await statusOf(gateway)).accounts['main'] ?? {};
    expect(cooldownMs).toBeGreaterThan(25_000);
    expect(cooldownMs).toBeLessThanOrEqual(30_000);
  });

  test('of each tenant what it asked, what was refused, what the cache has saved and who waits', async () => {
    const tenants = { ...TENANTS, billing: { ...TENANTS.billing, quota: { burst: 200, maxWait: '30s' } } };
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          tenants,
          accounts: { main: { quota: { ceiling: 30, burst: 8 }, credentials: [PRIMARY] } },
          cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '60s' }] },
        }),
    });
    for (let i = 0; i < 4; i++) await (await gateway.fetch('/api/v1/flows/1')).arrayBuffer();
    for (let i = 0; i < 7; i++) await (await gateway.fetch('/api/v1/flow-runs', reader)).arrayBuffer();
    await (
      await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: 'fake-key-of-nobody' } })
    ).arrayBuffer();
    const leave = new AbortController();
    const asking = Array.from({ length: 5 }, () =>
      gateway.fetch('/api/v1/flow-runs', { signal: leave.signal }).catch(() => null),
    );
    // Six of the burst are spent; the next comes after two seconds.
    await eventually(async () => (await statusOf(gateway)).tenants['billing']?.waiting === 3, 'three wait');
    const status = await statusOf(gateway);
    // The one that opened the account is billing's too. Those that are still in flight are not counted yet.
    expect(status.tenants['billing']?.recent).toMatchObject({ refused: 0, saved: 3 });
    expect(status.tenants['reader']?.recent).toEqual({ requests: 7, refused: 2, wouldReject: 0, saved: 0 });
    expect(status.tenants['reader']).toMatchObject({ account: 'main', disabled: false, waiting: 0 });
    expect(status.unattributed).toEqual({ requests: 1, refused: 1, wouldReject: 0, saved: 0 });
    expect(status.accounts['main']?.waiting).toBe(3);
    expect(status.cache.recent.hits).toBe(3);
    expect(status.cache.recent.reads).toBeGreaterThanOrEqual(4);
    leave.abort();
    await Promise.all(asking);
  });

  test('the last load: when, and why a bad one was refused, without secrets', async () => {
    await using gateway = await run();
    expect((await statusOf(gateway)).lastLoad).toMatchObject({ outcome: 'ok', problems: [] });
    await gateway.reload((upstream) => configuration(upstream, { limits: { bdy: '1MiB', [PRIMARY.apiKey]: 1 } }));
    const { lastLoad } = await statusOf(gateway);
    expect(lastLoad.outcome).toBe('refused');
    expect(lastLoad.problems.join()).toContain('bdy');
    expect(lastLoad.problems.join()).not.toContain(PRIMARY.apiKey);
    await gateway.reload(configuration);
    expect((await statusOf(gateway)).lastLoad).toMatchObject({ outcome: 'ok', problems: [] });
  });

  test('the last quarter of an hour of each account, by samples of five seconds', async () => {
    const clock = new ManualClock();
    await using gateway = await run({ clock });
    for (let i = 0; i < 3; i++) await (await gateway.fetch('/api/v1/flow-runs')).arrayBuffer();
    clock.advance(5_000);
    clock.advance(5_000);
    const { history } = await statusOf(gateway);
    expect([history.everyMs, history.keepMs, history.at.length]).toEqual([5_000, 900_000, 3]);
    // Before the warm-up request there was none.
    expect(history.accounts['main']?.slotsInUse).toEqual([0, 4, 4]);
    clock.advance(3_600_000);
    const later = (await statusOf(gateway)).history;
    expect(later.at).toHaveLength(180);
    expect(later.at.at(-1)! - later.at[0]!).toBe(179 * 5_000);
  });

  test('no key, no token, no password', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream), SPARE]) });
    await gateway.fetch('/api/v1/flow-runs');
    const listening = await openEventStream(gateway.adminUrl);
    const told = JSON.stringify(await listening.next()) + (await textOf(gateway));
    listening.stop();
    for (const secret of [SPARE.apiKey, FAKE_PASSWORD, BILLING_KEY, sha256(BILLING_KEY), 'Bearer', 'eyJ'])
      expect(told).not.toContain(secret);
  });
});

describe('/events', () => {
  test('say what /status says, with the busiest tenants first and the rest in one', async () => {
    const many = Array.from({ length: 200 }, (_, i) => `tenant-${i}`);
    const tenants = Object.fromEntries(
      many.map((id) => [id, { keys: [{ id: 'only', sha256: sha256(`fake-key-${id}`) }], quota: { maxWait: '0s' } }]),
    );
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { tenants: { ...tenants, billing: TENANTS.billing } }),
    });
    const ask = async (id: string, times: number) => {
      for (let i = 0; i < times; i++)
        await (
          await gateway.fetch('/api/v1/flow-runs', { headers: { 'X-API-Key': `fake-key-${id}`, Authorization: '' } })
        ).text();
    };
    await ask('tenant-150', 4);
    await ask('tenant-7', 3);
    const listening = await openEventStream(gateway.adminUrl);
    const frame = await listening.next();
    listening.stop();
    const status = await statusOf(gateway);
    expect(frame.tenants.count).toBe(201);
    expect(frame.tenants.busiest).toHaveLength(25);
    expect(frame.tenants.busiest.slice(0, 3).map(({ id }) => id)).toEqual(['tenant-150', 'tenant-7', 'billing']);
    for (const { id, ...tenant } of frame.tenants.busiest) {
      const { quota, keys, ...rest } = status.tenants[id]!;
      expect(tenant).toMatchObject(rest);
      expect(tenant.keys.map((key) => key.lastUsed)).toEqual(keys.map((key) => key.lastUsed));
      expect(tenant.quota.limit).toBe(quota.limit);
    }
    expect(frame.tenants.rest).toEqual({ requests: 0, refused: 0, wouldReject: 0, saved: 0, waiting: 0 });
    const still = ({ accounts, cache, state, revision }: typeof frame.status) => ({ accounts, cache, state, revision });
    expect(still(frame.status)).toEqual(still(status));
    expect(frame.history.accounts).toEqual(status.history.accounts);
  });

  test('need the token, and end when another one comes into force', async () => {
    await using gateway = await run({ config: (upstream) => withToken(upstream, ADMIN_TOKEN) });
    expect((await openEventStream(gateway.adminUrl)).status).toBe(401);
    expect((await openEventStream(gateway.adminUrl, 'wrong')).status).toBe(401);
    const listening = await openEventStream(gateway.adminUrl, ADMIN_TOKEN);
    expect((await listening.next()).status.draining).toBe(false);
    await gateway.reload((upstream) => withToken(upstream, 'fake-admin-token-after-it'));
    expect(await listening.ended()).toBe('restart');
    expect((await openEventStream(gateway.adminUrl, ADMIN_TOKEN)).status).toBe(401);
  });

  test('report a drain at once, and end with it: no reader keeps the gateway from ending', async () => {
    await using gateway = await run({ config: (upstream) => configuration(upstream, { drain: { delay: '0s' } }) });
    const listening = await openEventStream(gateway.adminUrl);
    await listening.next();
    const drained = gateway.drain();
    expect((await listening.next()).status.draining).toBe(true);
    await drained;
    await listening.ended().catch(() => '');
  });
});
