import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadSettings, renderProblems } from './load.ts';

const DAY = 24 * 3_600_000;
const at = (ms: number) => new Date(ms).toISOString();
const ACCOUNT = { credentials: [{ id: 'p', apiKey: 'fake-key' }] };
const key = (more: object = {}) => ({ id: 'k', sha256: 'a'.repeat(64), ...more });

async function warningsOf(more: Record<string, unknown>, env: Record<string, string> = {}) {
  const config = { accounts: { main: ACCOUNT }, tenants: { a: { keys: [key()] } }, ...more };
  const loaded = await loadSettings({ path: 'gateway.yaml', env, readFile: async () => JSON.stringify(config) });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.warnings;
}
const tenant = (options: object) => warningsOf({ tenants: { a: { keys: [key()], ...options } } });

test('a plain configuration has no warning', async () => expect(await warningsOf({})).toEqual([]));

describe('text that only looks like a placeholder is named by its place, not quoted', () => {
  const withKey = (apiKey: string) => warningsOf({ accounts: { main: { credentials: [{ id: 'p', apiKey }] } } });
  const OPTION = 'accounts.main.credentials[0].apiKey has';

  test.each(['$PATCHWORKS_API_KEY', 'x:$CANARY@y'])('%s', async (text) => {
    expect(await withKey(text)).toEqual([`${OPTION} a $NAME without braces, which is not filled in: write "\${NAME}"`]);
  });

  test('${NAME', async () => {
    expect(await withKey('${CANARY')).toEqual([`${OPTION} a \${ without its }: it is not filled in`]);
  });

  test.each(['$${NAME}', '$1$abc', 'pa$WORD', '$$NAME', '$a', 'a$'])('%s is a text', async (text) => {
    expect(await withKey(text)).toEqual([]);
  });

  test('and what a placeholder is filled with is not looked at', async () => {
    const accounts = { main: { credentials: [{ id: 'p', apiKey: '${KEY}' }] } };
    expect(await warningsOf({ accounts }, { KEY: '$SECRET' })).toEqual([]);
  });
});

describe('equal ports of both listeners', () => {
  const ports = (traffic: object, admin: object) => warningsOf({ listen: { traffic, admin } });
  test('are named where one of them cannot listen', async () => {
    const warning = 'listen.traffic.port and listen.admin.port are both 8080: only one of them can listen';
    expect(await ports({}, { port: 8080 })).toEqual([warning]);
    expect(await ports({ host: '127.0.0.1' }, { port: 8080 })).toEqual([warning]);
  });

  test('are none where the addresses differ, or the system selects them', async () => {
    expect(await ports({ host: '127.0.0.2' }, { port: 8080 })).toEqual([]);
    expect(await ports({ port: 0 }, { port: 0 })).toEqual([]);
  });
});

describe('a permission that permits nothing', () => {
  test.each([
    ['GET /flows/**', 'matches no route of its account: it permits nothing'],
    ['DELTE /api/v1/flows', 'has a method that no request has; did you mean DELETE?'],
    ['TRACE /api/v1/flows', 'has a method that no request has'],
  ])('%s', async (pattern, reason) => {
    const [warning, ...more] = await tenant({ allow: ['GET /api/v1/**', pattern] });
    expect(more).toEqual([]);
    expect(warning).toContain(`tenants.a.allow[1] ("${pattern}") ${reason}`);
  });

  test('of an empty list', async () => {
    expect(await tenant({ allow: [] })).toEqual(['tenants.a.allow is empty: it permits nothing']);
  });

  test('of a key', async () => {
    expect(await tenant({ keys: [key({ allow: ['GET /flows', 'GET /api/v1/flows'] })] })).toEqual([
      'tenants.a.keys[0].allow[0] ("GET /flows") matches no route of its account: it permits nothing',
    ]);
  });

  test('counts the routes of its own account only', async () => {
    const more = {
      accounts: { main: ACCOUNT, other: ACCOUNT },
      upstreams: {
        one: { account: 'main', origin: 'http://a.test' },
        two: { account: 'other', origin: 'http://b.test' },
      },
      routes: [
        { match: '* /one/**', upstream: 'one' },
        { match: '* /two/**', upstream: 'two' },
      ],
      tenants: { a: { account: 'main', keys: [key()], allow: ['GET /one/**', 'GET /two/**'] } },
    };
    expect(await warningsOf(more)).toEqual([expect.stringContaining('tenants.a.allow[1] ("GET /two/**") matches no')]);
  });
});

test('a rate above the ceiling', async () => {
  expect(await tenant({ quota: { rate: 236 } })).toEqual([
    'tenants.a.quota.rate is above the ceiling: no more than 235 a minute are ever sent',
  ]);
  expect(await tenant({ quota: { rate: 235 } })).toEqual([]);
});

test('a key that ends within 14 days', async () => {
  const soon = at(Date.now() + 13 * DAY);
  expect(await tenant({ keys: [key({ expires: soon })] })).toEqual([`tenants.a: the key k ends on ${soon}`]);
  expect(await tenant({ keys: [key({ expires: at(Date.now() + 15 * DAY) })] })).toEqual([]);
});

test('a disabled tenant has no warnings', async () => {
  const options = { disabled: true, keys: [key({ expires: at(1) })], allow: [], quota: { rate: 500 } };
  expect(await tenant(options)).toEqual([]);
});

const SECRETS = 'which have secrets or customer data: use store: false or unless';

describe('rules that store secrets or customer data are warned of', () => {
  test.each([
    ['[]', []],
    ['[{ match: "GET /other/**", ttl: 5s }]', []],
    ['[{ match: "GET /api/v1/flows/**", ttl: 30s, unless: { include: [variables, webhooks, callbacks] } }]', []],
    ['[{ match: "GET /api/v1/connectors", store: false }, { match: "GET /api/v1/connectors/**", ttl: 5s }]', []],
    ['[{ match: "GET /api/v1/connectors/**", ttl: 5s }]', [`cache.rules[0] stores /api/v1/connectors, ${SECRETS}`]],
    [
      '[{ match: "GET /x", ttl: 5s }, { match: "GET /api/v1/flows", ttl: 5s, unless: { include: [variables] } }]',
      [`cache.rules[1] stores /api/v1/flows?include=webhooks, /api/v1/flows?include=callbacks, ${SECRETS}`],
    ],
    [
      '[{ match: "GET /api/v1/**", ttl: 5s }]',
      [
        `cache.rules[0] stores /api/v1/flow-versions, /api/v1/virtual-environments, /api/v1/connectors and 22 more, ${SECRETS}`,
      ],
    ],
  ])('%s', async (rules, expected) => expect(await warningsOf({ cache: { rules: parse(rules) } })).toEqual(expected));
});
