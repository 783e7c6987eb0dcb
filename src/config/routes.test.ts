import { describe, expect, test } from 'vitest';
import { settingsDiff } from '../reload/reporter.ts';
import { loadSettings, renderProblems } from './load.ts';
import { redactedSettings, type Settings } from './settings.ts';

const CANARY = 'canary-4c1f-signature';
const ORDERS = { id: 'orders', header: { name: 'patchworks-signature', value: CANARY } };
const ROUTE = { match: '* /callbacks/orders', upstream: 'core', rewrite: '/api/v1/acme/42', credential: 'orders' };

interface Parts {
  readonly credential?: object;
  readonly route?: object;
  readonly more?: object;
}

function load({ credential = ORDERS, route = ROUTE, more = {} }: Parts) {
  const config = {
    accounts: { main: { credentials: [{ id: 'primary', apiKey: 'fake-key' }, credential] } },
    routes: [route],
    tenants: { a: { keys: [{ id: 'k', sha256: 'a'.repeat(64) }] } },
    ...more,
  };
  return loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => JSON.stringify(config) });
}
async function settingsOf(parts: Parts): Promise<Settings> {
  const loaded = await load(parts);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}
const problemsOf = async (parts: Parts): Promise<string[]> => {
  const loaded = await load(parts);
  return loaded.ok ? [] : loaded.problems.map(({ path, message }) => `${path}: ${message}`);
};

describe('a credential in a header or in the query', () => {
  test('of any name is a secret', async () => {
    const settings = await settingsOf({});
    expect(settings.accounts.get('main')?.credentials[1]).toMatchObject({
      kind: 'header',
      name: 'patchworks-signature',
    });
    expect(settings.secrets.map((secret) => secret.reveal())).toContain(CANARY);
    expect(JSON.stringify(redactedSettings(settings))).not.toContain(CANARY);
    const query = { id: 'orders', query: { name: 'patchworks_signature', value: 'fake other' } };
    const changed = await settingsOf({ credential: query });
    expect(settingsDiff(settings, changed).join()).not.toMatch(/canary|fake/);
    expect(settingsDiff(settings, changed)).toHaveLength(1);
  });

  test.each([
    [{ name: 'a b', value: 'x' }, 'header.name: must be the name of a header'],
    [{ name: 'Host', value: 'x' }, 'header.name: must be another header: the gateway sets this one itself'],
    [
      { name: 'transfer_encoding', value: 'x' },
      'header.name: must be another header: the gateway sets this one itself',
    ],
    [{ name: 'X-Request-Id', value: 'x' }, 'header.name: must be another header: the gateway sets this one itself'],
    [
      { name: 'x', value: 'two\nlines' },
      'header.value: must be printable ASCII in one line, without spaces around it: it is sent in a header',
    ],
    [{ name: 'x' }, 'header.value: is required'],
  ])('that cannot be sent is an error: %j', async (header, message) => {
    const problems = await problemsOf({ credential: { id: 'orders', header } });
    expect(problems).toEqual([`accounts.main.credentials[1].${message}`]);
  });

  test.each([
    [{ name: 'a&b', value: 'x' }, 'query.name: must be the name of a parameter: letters, digits, and any of _ . ~ -'],
    [{ name: 'a', value: '' }, 'query.value: must not be empty'],
  ])('that cannot be a parameter is an error: %j', async (query, message) => {
    const problems = await problemsOf({ credential: { id: 'orders', query } });
    expect(problems).toEqual([`accounts.main.credentials[1].${message}`]);
  });
});

describe('a route', () => {
  test('has the path and the credentials of the account, unless it says otherwise', async () => {
    const { routes } = await settingsOf({ route: { match: '* /a', upstream: 'core' } });
    expect(routes).toMatchObject([{ rewrite: null, credential: null, rewriteLinks: true }]);
    expect((await settingsOf({})).routes).toMatchObject([{ rewrite: '/api/v1/acme/42', credential: 'orders' }]);
  });

  test("names a credential that its upstream's account has", async () => {
    expect(await problemsOf({ route: { ...ROUTE, credential: 'order' } })).toEqual([
      'routes[0].credential: account "main" has no such credential; known are primary, orders',
    ]);
    const accounts = {
      main: { credentials: [ORDERS] },
      other: { credentials: [{ id: 'theirs', apiKey: 'fake' }] },
    };
    const upstreams = { core: { account: 'other', origin: 'http://h' } };
    const tenants = { a: { account: 'main', keys: [] } };
    expect(await problemsOf({ more: { accounts, upstreams, tenants } })).toEqual([
      'routes[0].credential: account "other" has no such credential; known are theirs',
    ]);
  });

  test.each(['api', '', '/a/../b', '/a//b', '/a/%2e%2e', '/a?b', '/a/*', '/**', '/a%2fb', '/a#b', '/a b', '/ä'])(
    'has no rewrite %j',
    async (rewrite) => {
      expect(await problemsOf({ route: { ...ROUTE, rewrite } })).toEqual([
        'routes[0].rewrite: must be a path such as /api/v1, without wildcards, query, and empty or dot segments',
      ]);
    },
  );

  test('that a reload changes is named', async () => {
    const before = await settingsOf({});
    const after = await settingsOf({ route: { ...ROUTE, rewrite: '/api/v1/acme/43' } });
    expect(settingsDiff(before, after)).toEqual(['routes changed']);
  });
});
