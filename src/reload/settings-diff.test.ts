import { describe, expect, test } from 'vitest';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { Secret } from '../secret.ts';
import { bounded, settingsDiff } from './reporter.ts';
import { applicable } from './restart-only.ts';

const hash = (digit: string) => digit.repeat(64);
const BASE = {
  redis: { url: 'redis://localhost', password: 'fake-canary-password' },
  tracing: { endpoint: 'http://localhost:4318/v1/traces', headers: { 'x-key': 'fake-canary-zero' } },
  accounts: { main: { quota: { ceiling: 200 }, credentials: [{ id: 'first', apiKey: 'fake-canary-one' }] } },
  tenants: {
    billing: { keys: [{ id: 'a', sha256: hash('a') }], quota: { rate: 60 } },
    reader: { keys: [{ id: 'r', sha256: hash('b') }] },
  },
};

const TLS: Settings['listen']['traffic']['tls'] = {
  ...{ cert: 'fake certificate', key: new Secret('fake-canary-key'), clientCa: 'fake authority' },
  ...{ clientAuth: 'optional', minVersion: 'TLSv1.2' },
  certificate: { names: ['DNS:gate.example.test'], notBeforeMs: 1, notAfterMs: 2, fingerprint: 'AA:BB' },
};

async function settingsOf(config: unknown): Promise<Settings> {
  const loaded = await loadSettings({ path: 'test.yaml', env: {}, readFile: async () => JSON.stringify(config) });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.settings;
}

/** A copy in which one value is another one; maps and lists by their first entry. */
function altered(value: unknown, path: readonly string[]): unknown {
  const [step, ...rest] = path;
  if (step === undefined) {
    if (value instanceof Secret) return new Secret(`${value.reveal()}x`);
    if (typeof value === 'number') return value + 1;
    if (typeof value === 'boolean') return !value;
    return Array.isArray(value) ? [...value, 'more'] : `${String(value)}x`;
  }
  if (value instanceof Map)
    return new Map([...value].map(([key, each]) => [key, key === step ? altered(each, rest) : each]));
  if (Array.isArray(value)) return value.map((each, index) => (String(index) === step ? altered(each, rest) : each));
  return { ...(value as object), [step]: altered((value as Record<string, unknown>)[step], rest) };
}

function leaves(value: unknown, path: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null || value instanceof Secret) return [[...path]];
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  if (entries.length === 0) return value instanceof Map || !Array.isArray(value) ? [] : [[...path]];
  return entries.flatMap(([key, each]) => leaves(each, [...path, String(key)]));
}

describe('the report of a reload', () => {
  test('names tenants, keys, permissions and quotas, accounts and credentials, and options; and no secret', async () => {
    const before = await settingsOf(BASE);
    const after = await settingsOf({
      accounts: {
        main: {
          quota: { ceiling: 190 },
          credentials: [
            { id: 'first', apiKey: 'fake-canary-two' },
            { id: 'spare', apiKey: 'fake-canary-three' },
          ],
        },
      },
      tracing: BASE.tracing,
      limits: { body: '1MiB' },
      listen: { admin: { tokens: [{ id: 'prometheus', token: 'fake-canary-four', role: 'metrics' }] } },
      cache: { rules: [] },
      tenants: {
        billing: {
          keys: [
            { id: 'b', sha256: hash('c') },
            { id: 'a', sha256: hash('d') },
          ],
          allow: ['GET /api/v1/**'],
          quota: { rate: 120, maxWait: '10s' },
          enforcement: 'observe',
        },
        newcomer: { disabled: true },
      },
    });
    const changed = settingsDiff(before, after);
    expect(changed).toEqual([
      'accounts.main.quota.ceiling 200 → 190',
      'accounts.main.credentials.first changed',
      'accounts.main.credentials.spare added',
      'tenants.reader removed',
      'tenants.billing.keys.b added',
      'tenants.billing.keys.a changed',
      'tenants.billing.allow changed',
      'tenants.billing.quota.rate 60 → 120',
      'tenants.billing.quota.maxWait 5s → 10s',
      'tenants.billing.enforcement enforce → observe',
      'tenants.newcomer added',
      'listen.admin.tokens.prometheus added',
      'redis changed',
      'cache.rules changed',
      'limits.body 10MiB → 1MiB',
    ]);
    expect(changed.join()).not.toMatch(/canary|aaaa|dddd/);
    expect(settingsDiff(before, await settingsOf(BASE))).toEqual([]);
    const budgets = (limit: number, part: number) =>
      settingsOf({
        accounts: {
          main: { ...BASE.accounts.main, budgets: { starts: { match: ['POST /api/v1/**'], limit, per: 'day' } } },
        },
        tenants: { billing: { budgets: { starts: part } } },
      });
    expect(settingsDiff(await budgets(9, 5), await budgets(8, 6))).toEqual([
      'accounts.main.budgets.starts.limit 9 → 8',
      'tenants.billing.budgets.starts 5 → 6',
    ]);
    const spare = { id: 'spare', apiKey: 'fake-canary-three' };
    const first = { id: 'first', apiKey: 'fake-canary-one' };
    const withCredentials = (credentials: unknown[]) =>
      settingsOf({ accounts: { main: { credentials } }, tenants: { a: {} } });
    expect(settingsDiff(await withCredentials([first, spare]), await withCredentials([spare, first]))).toEqual([
      'accounts.main.credentials in another order',
    ]);
  });

  test('names every value that is another one, as changed or as waiting for a restart', async () => {
    const loaded = await settingsOf(BASE);
    const { traffic, admin, ...listen } = loaded.listen;
    const settings: Settings = {
      ...loaded,
      listen: { ...listen, traffic: { ...traffic, tls: TLS }, admin: { ...admin, tls: TLS } },
    };
    const named = leaves(settings).filter(([first]) => first !== 'secrets' && first !== 'revision');
    expect(named.length).toBeGreaterThan(60);
    const unnamed = named.filter((path) => {
      const next = altered(settings, path) as Settings;
      const { needsRestart, settings: inForce } = applicable(settings, next);
      return needsRestart.length === 0 && settingsDiff(settings, inForce).length === 0;
    });
    expect(unnamed).toEqual([]);
  });

  test('is bounded, in lines and in their length', () => {
    const lines = bounded([...Array.from({ length: 10_000 }, (_, i) => `tenant t${i} removed`), 'x']);
    expect([lines.length, lines.at(-1)]).toEqual([31, 'and 9971 more']);
    expect(bounded(['x'.repeat(10_000)])[0]).toHaveLength(300);
    expect(bounded(['one', 'two'])).toEqual(['one', 'two']);
  });
});
