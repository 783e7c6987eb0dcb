import { describe, expect, test } from 'vitest';
import { settingsDiff } from '../reload/reporter.ts';
import { loadSettings, renderProblems } from './load.ts';
import type { Settings } from './settings.ts';

const OPERATIONS = { match: ['POST /api/v1/flows/*/start/**'], limit: 100 };
const key = { id: 'k', sha256: 'a'.repeat(64) };

interface Parts {
  readonly budgets?: object;
  readonly tenants?: Record<string, object>;
  readonly more?: object;
}

async function load({ budgets = { operations: OPERATIONS }, tenants = { a: {} }, more = {} }: Parts) {
  const all = Object.entries(tenants).map(([id, each], index) => [
    id,
    { keys: [{ ...key, sha256: String(index).repeat(64) }], ...each },
  ]);
  const config = {
    accounts: { main: { credentials: [{ id: 'primary', apiKey: 'fake' }], budgets } },
    stateDir: '/var/lib/patchgate',
    tenants: Object.fromEntries(all),
    ...more,
  };
  return loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => JSON.stringify(config, null, 1) });
}
async function settingsOf(parts: Parts): Promise<Settings> {
  const loaded = await load(parts);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}
const problemsOf = async (parts: Parts) => {
  const loaded = await load(parts);
  return loaded.ok ? [] : loaded.problems.map(({ path, message }) => `${path}: ${message}`);
};
const warningsOf = async (parts: Parts) => {
  const loaded = await load(parts);
  return loaded.ok ? loaded.warnings : ['it does not load'];
};

describe('a budget', () => {
  test('is of a month of UTC, with an alert at 80 per cent, unless it says otherwise', async () => {
    const { accounts, tenants, stateDir } = await settingsOf({ tenants: { a: { budgets: { operations: 0 } } } });
    expect(accounts.get('main')?.quota.budgets?.get('operations')).toMatchObject({
      ...{ limit: 100, per: 'month', timeZone: 'UTC', warnAtPercent: 80 },
      match: [{ text: 'POST /api/v1/flows/*/start/**' }],
    });
    expect(tenants.get('a')?.quota.budgets).toEqual(new Map([['operations', 0]]));
    expect(stateDir).toBe('/var/lib/patchgate');
  });

  test.each([
    ['without a limit', { match: ['GET /a'] }, 'budgets.operations.limit: is required'],
    ['without patterns', { limit: 1 }, 'budgets.operations.match: is required'],
    ['of nothing', { match: [], limit: 1 }, 'budgets.operations.match: must hold at least one pattern'],
    ['of a year', { ...OPERATIONS, per: 'year' }, 'budgets.operations.per: must be day or month'],
    [
      'of no time zone',
      { ...OPERATIONS, timeZone: 'Mars/Olympus' },
      'budgets.operations.timeZone: must be a name of the IANA time zone database, such as UTC or Europe/London',
    ],
    ['with an alert beyond it', { ...OPERATIONS, warnAt: 101 }, 'budgets.operations.warnAt: must be at most 100'],
    ['of 0', { ...OPERATIONS, limit: 0 }, 'budgets.operations.limit: must be at least 1'],
  ])('%s is an error', async (_, budget, message) => {
    expect(await problemsOf({ budgets: { operations: budget } })).toEqual([`accounts.main.${message}`]);
  });

  test('of a tenant is a part of one that its account has', async () => {
    const tenants = { a: { budgets: { operation: 5 } } };
    const path = 'tenants.a.budgets.operation: account "main" has no such budget';
    expect(await problemsOf({ tenants })).toEqual([`${path}; known are operations`]);
    expect(await problemsOf({ tenants, budgets: {} })).toEqual([`${path}; it has none`]);
  });

  test('whose parts are more than the whole, or whose counts do not last, is named in a warning', async () => {
    const tenants = { a: { budgets: { operations: 60 } }, b: { budgets: { operations: 41 } } };
    expect(await warningsOf({ tenants })).toEqual([
      "accounts.main.budgets.operations: the tenants' parts of it together are 101, above its limit of 100: the last to send find nothing left",
    ]);
    expect(await warningsOf({ tenants: { ...tenants, b: { ...tenants.b, disabled: true } } })).toEqual([]);
    const none = { stateDir: undefined };
    expect(await warningsOf({ more: none })).toEqual([
      expect.stringMatching(/^stateDir is not set: the counts of budgets begin at 0 after each restart/),
    ]);
    expect(await warningsOf({ more: none, budgets: {} })).toEqual([]);
    const redis = { url: 'redis://localhost' };
    expect(await warningsOf({ more: { ...none, redis } })).toEqual([]);
  });

  test('that a reload changes is named with its numbers', async () => {
    const before = await settingsOf({ tenants: { a: { budgets: { operations: 5 } } } });
    const after = await settingsOf({
      budgets: { operations: { ...OPERATIONS, limit: 200, per: 'day', timeZone: 'Europe/London' }, reads: OPERATIONS },
      tenants: { a: { budgets: { operations: 7 } } },
    });
    expect(settingsDiff(before, after)).toEqual([
      'accounts.main.budgets.operations.limit 100 → 200',
      'accounts.main.budgets.operations.per month → day',
      'accounts.main.budgets.operations.timeZone UTC → Europe/London',
      'accounts.main.budgets.reads added',
      'tenants.a.budgets.operations 5 → 7',
    ]);
  });

  test.each(['state', './state', ''])('has no directory %j for its counts', async (stateDir) => {
    expect(await problemsOf({ more: { stateDir } })).toHaveLength(1);
  });
});
