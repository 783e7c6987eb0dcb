import { describe, expect, test } from 'vitest';
import { type Config, codeOf, configuration, run, sha256, TENANTS } from '../support/gateway.ts';

const ACCOUNTS = {
  main: { apiKeys: { primary: 'fake-of-main' } },
  triggers: { apiKeys: { orders: 'fake-of-triggers' } },
};
const KEYS = { both: 'fake-both', one: 'fake-one', other: 'fake-other' };
const as = (name: keyof typeof KEYS) => ({ headers: { Authorization: `Bearer ${KEYS[name]}` } });
const tenant = (name: keyof typeof KEYS, more: Config) => ({
  keys: [{ id: 'k', sha256: sha256(KEYS[name]) }],
  quota: { burst: 100, maxWait: '0s' },
  ...more,
});

/** Two accounts: `main` for the API, and `triggers` with a ceiling of ten for what is below `/callbacks`. */
const config =
  (more: Config = {}) =>
  (upstream: string) =>
    configuration(upstream, {
      accounts: {
        main: { quota: { burst: 100 }, credentials: [{ id: 'primary', apiKey: 'fake-of-main' }] },
        triggers: {
          quota: { limit: 12, ceiling: 10, burst: 5 },
          credentials: [{ id: 'orders', header: { name: 'authorization', value: 'fake-of-triggers' } }],
          budgets: { starts: { match: ['POST /callbacks/**'], limit: 1_000 } },
        },
      },
      upstreams: {
        core: { account: 'main', origin: upstream },
        callbacks: { account: 'triggers', origin: upstream, timeout: '5s' },
      },
      routes: [
        { match: '* /callbacks/**', upstream: 'callbacks', rewrite: '/api/v1' },
        { match: '* /api/v1/**', upstream: 'core' },
      ],
      stateDir: undefined,
      tenants: {
        billing: { ...TENANTS.billing, account: 'main' },
        both: tenant('both', { accounts: ['main', 'triggers'] }),
        one: tenant('one', { account: 'main' }),
        other: tenant('other', { accounts: ['triggers'] }),
      },
      ...more,
    });

const open = (more: Config = {}) => run({ config: config(more), simulator: { accounts: ACCOUNTS } });

const byAccount = ({ simulator }: Awaited<ReturnType<typeof run>>) =>
  simulator.arrivals().map(({ account, target }) => `${account} ${target}`);

describe('a tenant with two accounts', () => {
  test('uses the account of the route, with its credential alone', async () => {
    await using gateway = await open();
    expect((await gateway.fetch('/callbacks/flow-runs', as('both'))).status).toBe(200);
    expect((await gateway.fetch('/api/v1/flow-runs', as('both'))).status).toBe(200);
    expect(byAccount(gateway)).toEqual(['triggers /api/v1/flow-runs', 'main /api/v1/flow-runs']);
  });

  test('has the ceiling of each on its own: used up in one, the other is as before', async () => {
    await using gateway = await open();
    const codes: string[] = [];
    for (let i = 0; i < 20; i++) {
      const response = await gateway.fetch('/callbacks/flow-runs', as('both'));
      codes.push(response.status === 200 ? 'ok' : await codeOf(response));
    }
    expect(new Set(codes)).toEqual(new Set(['ok', 'account_quota']));
    const main = await Promise.all(Array.from({ length: 40 }, () => gateway.fetch('/api/v1/flow-runs', as('both'))));
    expect(main.map(({ status }) => status)).toEqual(Array(40).fill(200));
    const { accounts } = gateway.simulator.stats();
    expect(accounts['triggers']!.greatestCountedIn60s).toBeLessThanOrEqual(10);
    expect([accounts['triggers']!.throttled, accounts['main']!.counted]).toEqual([0, 40]);
    const inUse = (account: string) => gateway.metric('patchgate_quota_slots_in_use', { account });
    expect([await inUse('triggers'), await inUse('main')]).toEqual([codes.filter((code) => code === 'ok').length, 41]);
    expect(await gateway.metric('patchgate_quota_decisions_total', { account: 'main', tenant: 'both' })).toBe(40);
  });

  test('receives its limits in the account of the request, and whoami shows both', async () => {
    await using gateway = await open();
    const trigger = await gateway.fetch('/callbacks/flow-runs', { method: 'HEAD', ...as('both') });
    expect(trigger.headers.get('ratelimit-policy')).toMatch(/^"tenant";q=10;w=60, "starts";q=1000;w=\d+$/);
    const api = await gateway.fetch('/api/v1/flow-runs', as('both'));
    expect(api.headers.get('ratelimit-policy')).toBe('"tenant";q=235;w=60');
    expect(await (await gateway.fetch('/_gateway/whoami', as('both'))).json()).toMatchObject({
      ...{ tenant: 'both', account: 'main', quota: { requestsPerMinute: 235 } },
      accounts: { main: { quota: { requestsPerMinute: 235 } }, triggers: { quota: { requestsPerMinute: 10 } } },
      budgets: { starts: { limit: 1_000 } },
    });
    const one = await (await gateway.fetch('/_gateway/whoami', as('one'))).json();
    expect(one).not.toHaveProperty('accounts');
    const status = (await (await fetch(`${gateway.adminUrl}/status`)).json()) as { tenants: Record<string, unknown> };
    expect(status.tenants['both']).toMatchObject({ account: 'main', accounts: ['main', 'triggers'] });
    expect(status.tenants['both']).toMatchObject({ quota: { limit: 235 }, budgets: { starts: { left: 1_000 } } });
  });

  test('goes on in one account while the other is in cooldown, or its credential is rejected', async () => {
    await using gateway = await open();
    gateway.simulator.fault({ match: 'GET /api/v1/scripts', times: 1, fault: { kind: 'status', status: 429 } });
    expect((await gateway.fetch('/callbacks/scripts', as('both'))).status).toBe(429);
    const again = await gateway.fetch('/callbacks/flow-runs', as('both'));
    expect([again.status, await codeOf(again)]).toEqual([429, 'upstream_cooldown']);
    expect((await gateway.fetch('/api/v1/flow-runs', as('both'))).status).toBe(200);
  });

  test('counts a budget in the account that has it', async () => {
    await using gateway = await open();
    await gateway.fetch('/callbacks/flows/1/start', { method: 'POST', ...as('both') });
    await gateway.fetch('/api/v1/flows/1/start', { method: 'POST', ...as('both') });
    const budget = { tenant: 'both', budget: 'starts' };
    expect(await gateway.metric('patchgate_tenant_budget_used', budget)).toBe(1);
    expect(await gateway.metric('patchgate_budget_used', { account: 'triggers', budget: 'starts' })).toBe(1);
  });
});

describe('a route to the account of another tenant', () => {
  test.each([
    ['one', '/callbacks/flow-runs', 'main'],
    ['other', '/api/v1/flow-runs', 'triggers'],
  ] as const)('is forbidden to %s: %s', async (name, path, own) => {
    await using gateway = await open();
    const response = await gateway.fetch(path, as(name));
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({
      code: 'route_forbidden',
      detail: expect.stringContaining(`it belongs to another account, and the tenant uses the account ${own}.`),
    });
    expect(gateway.simulator.arrivals()).toEqual([]);
    expect((await gateway.fetch('/nowhere', as(name))).status).toBe(404);
  });

  test('is open from the reload on that adds the account', async () => {
    await using gateway = await open();
    expect((await gateway.fetch('/callbacks/flow-runs', as('one'))).status).toBe(403);
    const one = tenant('one', { accounts: ['main', 'triggers'] });
    const billing = { ...TENANTS.billing, account: 'main' };
    await gateway.reload(config({ tenants: { billing, one } }));
    expect((await gateway.fetch('/callbacks/flow-runs', as('one'))).status).toBe(200);
    expect((await gateway.fetch('/api/v1/flow-runs', as('one'))).status).toBe(200);
    expect(byAccount(gateway)).toEqual(['triggers /api/v1/flow-runs', 'main /api/v1/flow-runs']);
  });
});
