import { describe, expect, test } from 'vitest';
import { planOf } from '../gateway/quota-backend.ts';
import { loadSettings, renderProblems } from './load.ts';
import type { Settings } from './settings.ts';

const OPERATIONS = { operations: { match: ['POST /a/**'], limit: 100 } };
const ACCOUNTS = {
  main: { credentials: [{ id: 'p', apiKey: 'fake' }], budgets: OPERATIONS },
  triggers: { quota: { limit: 120, ceiling: 100 }, credentials: [{ id: 'q', apiKey: 'fake-too' }] },
};
const key = { id: 'k', sha256: 'a'.repeat(64) };

function load(tenant: object, accounts: object = ACCOUNTS) {
  const config = {
    accounts,
    upstreams: { core: { account: Object.keys(accounts)[0], origin: 'http://h' } },
    routes: [{ match: 'GET /a/**', upstream: 'core' }],
    stateDir: '/var/lib/patchgate',
    tenants: { a: { keys: [key], ...tenant } },
  };
  return loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => JSON.stringify(config) });
}
async function settingsOf(...args: Parameters<typeof load>): Promise<Settings> {
  const loaded = await load(...args);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}
const problemsOf = async (...args: Parameters<typeof load>): Promise<string[]> => {
  const loaded = await load(...args);
  return loaded.ok ? [] : loaded.problems.map(({ path, message }) => `${path}: ${message}`);
};

describe('the accounts of a tenant', () => {
  test('are those that it names, or the only one', async () => {
    const of = async (...args: Parameters<typeof load>) => (await settingsOf(...args)).tenants.get('a')?.accounts;
    expect(await of({ accounts: ['triggers', 'main', 'main'] })).toEqual(['triggers', 'main']);
    expect(await of({ account: 'triggers' })).toEqual(['triggers']);
    expect(await of({}, { main: ACCOUNTS.main })).toEqual(['main']);
  });

  test.each([
    [{}, 'tenants.a: needs an account, since there are several'],
    [{ accounts: [] }, 'tenants.a.accounts: must name at least one account'],
    [{ account: 'main', accounts: ['main'] }, 'tenants.a.accounts: is there beside `account`: write one of them'],
    [{ account: 'mian' }, 'tenants.a.account: there is no such account; known are main, triggers'],
    [{ accounts: ['main', 'trigger'] }, 'tenants.a.accounts[1]: there is no such account; known are main, triggers'],
    [
      { account: 'triggers', budgets: { operations: 1 } },
      'tenants.a.budgets.operations: account "triggers" has no such budget; it has none',
    ],
    [
      { accounts: ['main', 'triggers'], budgets: { starts: 1 } },
      'tenants.a.budgets.starts: none of its accounts has such a budget; known are operations',
    ],
    [
      { accounts: ['main', 'triggers'], quota: { reserved: 101 } },
      'tenants.a.quota.reserved: brings the reserved rates of account "triggers" to 101, above its ceiling of 100',
    ],
  ])('%j is an error', async (tenant, message) => {
    expect(await problemsOf(tenant)).toEqual([message]);
  });

  test('have no two budgets of one name', async () => {
    const accounts = { ...ACCOUNTS, triggers: { ...ACCOUNTS.triggers, budgets: OPERATIONS } };
    expect(await problemsOf({ accounts: ['main', 'triggers'] }, accounts)).toEqual([
      'tenants.a.accounts: account "triggers" has a budget "operations" like another account of the tenant: give it another name',
    ]);
    expect(await problemsOf({ account: 'triggers' }, accounts)).toEqual([]);
  });

  test('each have the quota of the tenant, and by default the rate of their own ceiling', async () => {
    const { tenants } = planOf(
      await settingsOf({ accounts: ['main', 'triggers'], quota: { burst: 7 }, budgets: { operations: 5 } }),
    );
    expect(tenants.get('main')?.get('a')).toMatchObject({ rate: 235, burst: 7, reserved: 0 });
    expect(tenants.get('main')?.get('a')?.budgets).toEqual(new Map([['operations', 5]]));
    expect(tenants.get('triggers')?.get('a')).toMatchObject({ rate: 100, burst: 7, reserved: 0 });
    const plain = planOf(await settingsOf({ accounts: ['main', 'triggers'] })).tenants;
    expect([...plain.values()].map((each) => each.get('a')?.burst)).toEqual([60, 60]);
    const slow = planOf(await settingsOf({ accounts: ['main', 'triggers'], quota: { rate: 30 } }));
    expect([...slow.tenants.values()].map((each) => each.get('a'))).toMatchObject(
      Array(2).fill({ rate: 30, burst: 20 }),
    );
    expect(planOf(await settingsOf({ account: 'triggers' })).tenants.get('main')?.size).toBe(0);
  });
});
