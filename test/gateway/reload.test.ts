import { describe, expect, test } from 'vitest';
import {
  arrived,
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  READER_KEY,
  run,
  SPARE,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { redisServer } from '../support/redis.ts';

const NEW_KEY = 'pgk_billing_fake-new-key';
type Running = Awaited<ReturnType<typeof run>>;

const withTenants = (gateway: Running, tenants: Config, more: Config = {}) =>
  configuration(gateway.simulator.url, { tenants, ...more });
const withQuota = (upstream: string, quota: Config, credentials: unknown[] = [PRIMARY]) =>
  configuration(upstream, { accounts: { main: { quota, credentials } } });
const logins = (gateway: Running) =>
  gateway.simulator.arrivals().filter((each) => each.target === '/fabric/api/login').length;
describe('after a reload', () => {
  test('a new key works, a removed one is 401, and so is every key of a tenant that is gone', async () => {
    await using gateway = await run();
    const billing = { ...TENANTS.billing, keys: [{ id: 'new', sha256: sha256(NEW_KEY) }] };
    await gateway.reload(() => withTenants(gateway, { billing }));
    const status = async (key: string) =>
      (await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: key } })).status;
    expect([await status(NEW_KEY), await status(BILLING_KEY), await status(READER_KEY)]).toEqual([200, 401, 401]);
    expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'ok' })).toBe(2);
  });

  test.each(['embedded state', 'Redis'])(
    'what is spent is neither refilled nor emptied, of the tenant and of the account: %s',
    async (kind) => {
      await using redis = await redisServer();
      const config = (upstream: string, burst: number, ceiling: number) => ({
        ...withQuota(upstream, { ceiling, burst: 200 }),
        ...(kind === 'Redis' && { redis: { url: redis.url } }),
        // So slow that nothing is gained while the test runs.
        tenants: { ...TENANTS, reader: { ...TENANTS.reader, quota: { rate: 0.5, burst, maxWait: '0s' } } },
      });
      await using gateway = await run({ config: (upstream) => config(upstream, 10, 235) });
      const ask = () => gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
      const left = async () => Number((await ask()).headers.get('x-ratelimit-remaining'));
      for (let i = 0; i < 5; i++) expect((await ask()).status).toBe(200);
      for (let i = 0; i < 10; i++) await gateway.reload(() => config(gateway.simulator.url, 10, 225 + i));
      expect(await left()).toBe(4);
      await gateway.reload(() => config(gateway.simulator.url, 20, 230));
      expect(await left()).toBe(13);
      await gateway.reload(() => config(gateway.simulator.url, 3, 200));
      expect((await ask()).status).toBe(429);
      // Seven of these, and what opened the account.
      const opening = kind === 'Redis' ? 2 : 1;
      // A replica learns the state in Redis with its next heartbeat.
      const slots = () => gateway.metric('patchgate_quota_slots_in_use');
      await eventually(async () => (await slots()) === 7 + opening, 'all slots are held still');
      expect(await gateway.metric('patchgate_quota_ceiling')).toBe(200);
    },
  );

  test('a lower ceiling holds at once, with what was sent before counted', async () => {
    await using gateway = await run({ config: (upstream) => withQuota(upstream, { ceiling: 100, burst: 100 }) });
    for (let i = 0; i < 30; i++) await (await gateway.fetch('/api/v1/flow-runs')).arrayBuffer();
    await gateway.reload(() => withQuota(gateway.simulator.url, { ceiling: 31, burst: 31 }));
    const refused = await gateway.fetch('/api/v1/flow-runs');
    expect([refused.status, await codeOf(refused)]).toEqual([429, 'account_quota']);
    expect(gateway.simulator.stats().arrived).toBe(30);
  });

  test('a higher ceiling is given at once to those who wait for it', async () => {
    const config = (upstream: string, quota: Config) => ({
      ...withQuota(upstream, quota),
      tenants: { billing: { ...TENANTS.billing, quota: { burst: 200, maxWait: '30s' } } },
    });
    await using gateway = await run({ config: (upstream) => config(upstream, { ceiling: 20, burst: 1 }) });
    const waiting = Array.from({ length: 8 }, () => gateway.fetch('/api/v1/flow-runs'));
    await eventually(async () => ((await gateway.metric('patchgate_quota_waiting')) ?? 0) > 0, 'some wait');
    await gateway.reload(() => config(gateway.simulator.url, { ceiling: 230, burst: 200 }));
    // The 429 asked for a pause of ten seconds.
    await eventually(() => gateway.simulator.stats().arrived === 8, 'all are sent');
    expect((await Promise.all(waiting)).map((each) => each.status)).toEqual(Array(8).fill(200));
  });

  test('a login token lives on, and a changed credential takes over from the next request on', async () => {
    await using gateway = await run({
      config: (upstream) => withQuota(upstream, { burst: 200 }, [loginAt(upstream)]),
    });
    const upstream = gateway.simulator.url;
    await gateway.reload(() => withQuota(upstream, { burst: 100 }, [loginAt(upstream), SPARE]));
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(logins(gateway)).toBe(0);
    expect(await gateway.metric('patchgate_credential_expiry_timestamp_seconds')).toBeGreaterThan(0);
    await gateway.reload(() => withQuota(upstream, { burst: 100 }, [SPARE]));
    await gateway.fetch('/api/v1/flow-runs');
    expect(arrived(gateway.simulator.arrivals().at(-1)!.headers, 'authorization')).toBe(SPARE.apiKey);
    // The expiry of a token that is used no more needs no alert.
    expect(await gateway.metric('patchgate_credential_expiry_timestamp_seconds')).toBe(0);
  });

  test('a rejected key that did not change goes on resting; one that changed is tried at once', async () => {
    const both = (first: unknown) => (upstream: string) => withQuota(upstream, { burst: 200 }, [first, SPARE]);
    await using gateway = await run({ config: both(PRIMARY) });
    const upstream = gateway.simulator.url;
    gateway.simulator.credentials.revokeKey('primary');
    await gateway.fetch('/api/v1/flow-runs');
    await gateway.reload(() => ({ ...both(PRIMARY)(upstream), drain: { delay: '1s' } }));
    gateway.simulator.reset();
    await gateway.fetch('/api/v1/flow-runs');
    expect(gateway.simulator.arrivals().map((each) => each.credential)).toEqual(['spare']);
    gateway.simulator.credentials.restoreKey('renewed', 'fake-patchworks-key-renewed');
    await gateway.reload(() => both({ id: 'primary', apiKey: 'fake-patchworks-key-renewed' })(upstream));
    await gateway.fetch('/api/v1/flow-runs');
    expect(gateway.simulator.arrivals().at(-1)!.credential).toBe('renewed');
    // A secret from its first line on.
    await gateway.fetch('/api/v1/fake-patchworks-key-renewed');
    expect(gateway.logText()).not.toContain('fake-patchworks-key-renewed');
  });

  test('answers stored before are served on, but none that a write before or after it has made worthless', async () => {
    await using gateway = await run();
    const get = async () => (await gateway.fetch('/api/v1/scripts')).headers.get('cache-status');
    const write = () => gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"x"}' });
    await get();
    const changed = (delay: string) => configuration(gateway.simulator.url, { drain: { delay } });
    await gateway.reload(() => changed('1s'));
    expect(await get()).toContain('hit');
    await write();
    await gateway.reload(() => changed('2s'));
    expect(await get()).toContain('fwd=miss');
    await gateway.reload(() => changed('3s'));
    await write();
    expect(await get()).toContain('fwd=miss');
    // Stored under rules that are no more.
    expect(await get()).toContain('hit');
    await gateway.reload(() =>
      configuration(gateway.simulator.url, { cache: { rules: [{ match: 'GET /api/v1/scripts', ttl: '5s' }] } }),
    );
    expect(await get()).toContain('fwd=miss');
  });

  test('limits of bodies, the admin token, the level of the log and what /config and /status say are the new ones', async () => {
    await using gateway = await run();
    const token = 'fake-admin-token-of-the-reload';
    await gateway.reload(() =>
      configuration(gateway.simulator.url, {
        listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token } },
        limits: { body: '1KiB' },
        log: { level: 'warn' },
      }),
    );
    const before = gateway.logs().length;
    const body = Buffer.alloc(2_000, ' ');
    expect((await gateway.fetch('/api/v1/data-pool', { method: 'POST', body })).status).toBe(413);
    expect(gateway.logs()).toHaveLength(before);
    expect((await fetch(`${gateway.adminUrl}/config`)).status).toBe(401);
    const headers = { Authorization: `Bearer ${token}` };
    const config = await (await fetch(`${gateway.adminUrl}/config`, { headers })).text();
    expect(JSON.parse(config)).toMatchObject({ limits: { bodyBytes: 1024 } });
    const status = (await (await fetch(`${gateway.adminUrl}/status`, { headers })).json()) as Record<string, unknown>;
    expect(status).toMatchObject({ revision: JSON.parse(config).revision, needsRestart: [] });
    expect(config + gateway.logText()).not.toContain(token);
  });

  test('the series of tenants that are gone are gone', async () => {
    await using gateway = await run();
    await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    expect(await gateway.metric('patchgate_http_requests_total', { tenant: 'reader' })).toBe(1);
    await gateway.reload(() => withTenants(gateway, { billing: TENANTS.billing }));
    expect(await gateway.metric('patchgate_http_requests_total', { tenant: 'reader' })).toBe(0);
    expect(await gateway.metric('patchgate_http_requests_total', { tenant: 'billing' })).toBeGreaterThan(0);
  });
});

test('a bad configuration is refused, told and counted; the old one stays', async () => {
  await using gateway = await run();
  await gateway.reload((upstream) => configuration(upstream, { limits: { bdy: '1MiB' } }));
  expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'refused' })).toBe(1);
  expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'ok' })).toBe(1);
  expect(gateway.logText()).toContain('did you mean');
});

describe('what cannot change while it runs', () => {
  test('keeps its old value, is named in a warning and in /status, and the rest takes effect', async () => {
    await using gateway = await run();
    await gateway.reload(() =>
      configuration(gateway.simulator.url, {
        listen: { traffic: { host: '127.0.0.1', port: 1 }, admin: { host: '127.0.0.1', port: 0 } },
        redis: { url: 'redis://127.0.0.1:1', password: 'fake-redis-password' },
        cache: { memory: '1MiB' },
        limits: { headers: '64KiB', requestsPerSecond: 5, body: '1KiB' },
      }),
    );
    const kept = ['listen.traffic.port', 'redis', 'cache.memory', 'limits.headers', 'limits.requestsPerSecond'];
    const warned = gateway.logs().filter((line) => line['level'] === 'warn');
    expect(warned.map((line) => line['option'])).toEqual(kept);
    const read = async (path: string) => (await (await fetch(`${gateway.adminUrl}${path}`)).json()) as Config;
    expect(await read('/status')).toMatchObject({ needsRestart: kept });
    expect(await read('/config')).toMatchObject({
      redis: null,
      cache: { memoryBytes: 128 * 2 ** 20 },
      limits: { bodyBytes: 1024 },
    });
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    await gateway.reload(configuration);
    expect(await read('/status')).toMatchObject({ needsRestart: [] });
  });
});

describe('a request in flight during a reload', () => {
  test('ends as it began though its tenant, its account and its credential are gone; then they are let go', async () => {
    await using gateway = await run({
      config: (upstream) => withQuota(upstream, { burst: 200 }, [loginAt(upstream)]),
      simulator: { switches: { responseLatency: { kind: 'fixed', ms: 300 } } },
    });
    const under = gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    await eventually(() => gateway.simulator.stats().arrived === 1, 'the request is upstream');
    const other = configuration(gateway.simulator.url, {
      accounts: { other: { credentials: [SPARE] } },
      tenants: { billing: TENANTS.billing },
    });
    await gateway.reload(() => other);
    await gateway.reload(() => ({ ...other, drain: { delay: '1s' } }));
    // The token is in use still.
    expect(await gateway.metric('patchgate_credential_expiry_timestamp_seconds')).toBeGreaterThan(0);
    expect((await under).status).toBe(200);
    expect((await under).headers.get('x-ratelimit-remaining')).not.toBeNull();
    expect(await gateway.metric('patchgate_credential_expiry_timestamp_seconds')).toBe(0);
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  });

  test.each(['embedded state', 'Redis'])(
    'waits on for its slot by the rules it came under, and gets it: %s',
    async (kind) => {
      await using redis = await redisServer();
      const shared = kind === 'Redis' ? { redis: { url: redis.url } } : {};
      const tenants = (quota: Config) => ({ billing: { keys: TENANTS.billing.keys, quota } });
      await using gateway = await run({
        config: (upstream) =>
          configuration(upstream, { ...shared, tenants: tenants({ rate: 120, burst: 1, maxWait: '10s' }) }),
      });
      const waiting = [1, 2, 3].map(() => gateway.fetch('/api/v1/flow-runs'));
      await eventually(
        async () => (await gateway.metric('patchgate_quota_waiting')) + gateway.simulator.stats().arrived === 3,
        'all are here',
      );
      await gateway.reload(() => withTenants(gateway, tenants({ rate: 120, burst: 1, maxWait: '0s' }), shared));
      expect((await Promise.all(waiting)).map((each) => each.status)).toEqual([200, 200, 200]);
    },
  );

  test.each(['embedded state', 'Redis'])(
    'that still waits for its slot is not sent any more when its tenant is removed or disabled: %s',
    async (kind) => {
      await using redis = await redisServer();
      const shared = kind === 'Redis' ? { redis: { url: redis.url } } : {};
      const slow = { rate: 20, burst: 1, maxWait: '30s' };
      const billing = { keys: TENANTS.billing.keys, quota: slow };
      const reader = { keys: TENANTS.reader.keys, quota: slow };
      await using gateway = await run({
        config: (upstream) => configuration(upstream, { ...shared, tenants: { billing, reader } }),
      });
      const ask = (key: string) => fetch(`${gateway.url}/api/v1/flow-runs`, { headers: { 'X-API-Key': key } });
      const asked = [BILLING_KEY, BILLING_KEY, READER_KEY, READER_KEY].map(ask);
      const waiting = () => gateway.metric('patchgate_quota_waiting');
      await eventually(async () => (await waiting()) + gateway.simulator.stats().arrived === 4, 'all are here');
      const sent = gateway.simulator.stats().arrived;
      await gateway.reload(() => withTenants(gateway, { reader: { ...reader, disabled: true } }, shared));
      const answers = await Promise.all(asked);
      const refused = answers.filter(({ status }) => status === 401);
      expect([refused.length, answers.length - refused.length]).toEqual([4 - sent, sent]);
      const codes = await Promise.all(refused.map(codeOf));
      expect([...new Set(codes)].sort()).toEqual(['key_unknown', 'tenant_disabled']);
      expect([await waiting(), gateway.simulator.stats().arrived]).toEqual([0, sent]);
      expect((await ask(BILLING_KEY)).status).toBe(401);
    },
  );

  test.each(['embedded state', 'Redis'])(
    'none is lost under load during ten reloads, and the ceiling holds: %s',
    async (kind) => {
      await using redis = await redisServer();
      // Its usual deadline is for a machine that has time.
      const shared = kind === 'Redis' ? { redis: { url: redis.url, timeout: '1s' } } : {};
      await using gateway = await run({
        config: (upstream) => ({ ...withQuota(upstream, { burst: 200 }), ...shared }),
        simulator: { switches: { responseLatency: { kind: 'uniform', minMs: 1, maxMs: 20 } } },
      });
      let running = true;
      const statuses: number[] = [];
      const worker = async () => {
        while (running) {
          const response = await gateway.fetch('/api/v1/flow-runs');
          await response.arrayBuffer();
          statuses.push(response.status);
        }
      };
      const workers = Array.from({ length: 8 }, worker);
      for (let i = 1; i <= 10; i++) {
        const before = statuses.length;
        await gateway.reload(() => ({
          ...withQuota(gateway.simulator.url, { ceiling: 225 + i, burst: 150 + i }),
          ...shared,
        }));
        await eventually(() => statuses.length > before + 10, 'requests after a reload');
      }
      running = false;
      await Promise.all(workers);
      expect(statuses.filter((each) => each !== 200 && each !== 429)).toEqual([]);
      expect(statuses.filter((each) => each === 200)).toHaveLength(gateway.simulator.stats().counted);
      expect(gateway.simulator.stats().accounts['main']!.greatestCountedIn60s).toBeLessThanOrEqual(235);
      expect(await gateway.metric('patchgate_rejections_total', { code: 'internal' })).toBe(0);
      expect(gateway.logs().filter((line) => line['level'] === 'error')).toEqual([]);
    },
  );
});
