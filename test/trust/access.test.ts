import { describe, expect, test } from 'vitest';
import { createKeyStore } from '../../src/auth/authenticate.ts';
import type { KeyEntry } from '../../src/auth/tenant.ts';
import { BILLING_KEY, type Config, configuration, eventually, run, sha256 } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const ADMIN_TOKEN = 'fake-admin-token-for-access';
const local = { host: '127.0.0.1', port: 0 };
const withListen =
  (listen: Config, more: Config = {}) =>
  (upstream: string) =>
    configuration(upstream, { listen: { traffic: local, admin: local, ...listen }, ...more });

describe('an address that guesses keys', () => {
  const limits = { failedAuth: 4 };
  const guessing = (forwarded: string, key = `fake-guess-${Math.random()}`) => ({
    headers: { Authorization: key, ...(forwarded !== '' && { 'X-Forwarded-For': forwarded }) },
  });

  test('gains nothing by X-Forwarded-For where no proxy is trusted', async () => {
    await using gateway = await run({ config: withListen({}, { limits }) });
    for (let i = 0; i < 4; i++) await gateway.fetch('/_gateway/whoami', guessing(`192.0.2.${i}`));
    const blocked = () => gateway.fetch('/_gateway/whoami', guessing('192.0.2.99', BILLING_KEY));
    await eventually(async () => (await blocked()).status === 429, 'blocked');
  });

  test.each([
    ['addresses in front of its own', (i: number) => `192.0.2.${i}, 203.0.113.7`],
    ['proxies in front of its own', (i: number) => `127.0.0.${i}, 192.0.2.${i}, 203.0.113.7, 127.0.0.9`],
    [
      'IPv4 addresses mapped to IPv6',
      (i: number) => ['203.0.113.7', '::ffff:203.0.113.7', '::FFFF:203.0.113.7', '::ffff:cb00:7107'][i] as string,
    ],
    ['a port behind its address', (i: number) => `203.0.113.7:${4_000 + i}`],
    ['the rest of its /64', (i: number) => `2001:db8:1:2:${i}::${i}`],
    [
      'other spellings of its IPv6 address',
      (i: number) =>
        ['2001:db8:1:2::1', '2001:DB8:1:2::1', '2001:0db8:0001:0002:0:0:0:1', '[2001:db8:1:2::1]:443'][i] as string,
    ],
  ])('gains nothing, behind a trusted proxy, by %s; and no other address is blocked', async (_name, spelling) => {
    await using gateway = await run({ config: withListen({ trustedProxies: ['127.0.0.0/8'] }, { limits }) });
    for (let i = 0; i < 4; i++)
      expect((await gateway.fetch('/_gateway/whoami', guessing(spelling(i)))).status).toBe(401);
    const now = async (address: string) =>
      (await gateway.fetch('/_gateway/whoami', guessing(address, BILLING_KEY))).status;
    await eventually(async () => (await now(spelling(0))) === 429, 'blocked');
    expect(await now(spelling(3))).toBe(429);
    expect([await now('203.0.113.8'), await now('2001:db8:1:3::1'), await now('')]).toEqual([200, 200, 200]);
  });
});

test('a key is found by the digest of the whole key and by nothing else: no comparison ends early, for a known or an unknown one', () => {
  const asked: string[] = [];
  const entry = { id: 'k', tenant: {} } as KeyEntry;
  const entries = new Map([[sha256('right-key'), entry]]);
  // Any other use of the entries, such as an iteration, throws here.
  const watchedEntries = new Proxy(entries, {
    get(target, name) {
      if (name !== 'get') throw new Error(`read by ${String(name)}`);
      return (digest: string) => {
        asked.push(digest);
        return target.get(digest);
      };
    },
  });
  const keys = createKeyStore(watchedEntries);
  for (const key of ['right-ke', 'right-keyy', 'wrong', 'right-key'])
    expect(keys.find(key)).toBe(key === 'right-key' ? entry : undefined);
  expect(asked).toEqual(['right-ke', 'right-keyy', 'wrong', 'right-key'].map(sha256));
});

const ADMIN_PATHS = ['/', '/metrics', '/status', '/config', '/events', '/reload', '/cache/purge', '/livez', '/readyz'];

describe('the admin port', () => {
  const start = () => run({ config: withListen({ admin: { ...local, token: ADMIN_TOKEN } }) });
  const portOf = (url: string) => Number(new URL(url).port);
  const spellings = (path: string) => [
    path,
    `${path}/`,
    `/${path}`,
    `/.${path}`,
    `/livez/..${path}`,
    `/livez/%2e%2e${path}`,
    `/livez%2f..${path}`,
    `/livez;${path}`,
    `/livez?${path}`,
    `/readyz#${path}`,
    path.toUpperCase(),
    path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
    `http://127.0.0.1${path}`,
    `\\${path}`,
  ];

  test('shows nothing without the token, on any path, in any spelling, by any method', async () => {
    await using gateway = await start();
    const port = portOf(gateway.adminUrl);
    for (const path of ADMIN_PATHS.flatMap(spellings)) {
      for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS', 'DELETE']) {
        const response = await sendRaw(port, rawRequest(`${method} ${path}`, [AUTH, 'Content-Length: 0']));
        const open = /^(?:ok\n|\{"ready":true,"reasons":\[\]\}\n|)$/.test(response.body);
        expect([200, 400, 401, 405]).toContain(response.status);
        if (response.status === 200) expect([`${method} ${path}`, open]).toEqual([`${method} ${path}`, true]);
        expect(response.text).not.toMatch(/patchgate_|"accounts"|"tenants"|event-stream/);
      }
    }
  });

  test('accepts only the complete token, and only in the header', async () => {
    await using gateway = await start();
    const basic = Buffer.from(`admin:${ADMIN_TOKEN}`).toString('base64');
    const attempts: [string, string[]][] = [
      ['/status', [`Authorization: Bearer ${ADMIN_TOKEN.slice(0, -1)}`]],
      ['/status', [`Authorization: Bearer ${ADMIN_TOKEN}x`]],
      ['/status', [`Authorization: Bearer ${ADMIN_TOKEN.toUpperCase()}`]],
      ['/status', [`Authorization: Bearer ${sha256(ADMIN_TOKEN)}`]],
      ['/status', ['Authorization: Bearer ']],
      ['/status', ['Authorization: Bearer undefined']],
      ['/status', [`Authorization: ${ADMIN_TOKEN}`]],
      ['/status', [`Authorization: Basic ${basic}`]],
      ['/status', [`X-API-Key: ${ADMIN_TOKEN}`]],
      ['/status', [`Cookie: token=${ADMIN_TOKEN}`]],
      [`/status?token=${ADMIN_TOKEN}&access_token=${ADMIN_TOKEN}`, []],
      ['/status', ['X-Forwarded-For: 127.0.0.1', 'X-Original-URL: /livez', 'X-Forwarded-Prefix: /livez']],
      ['/status', [AUTH]],
    ];
    for (const [path, headers] of attempts) {
      const response = await sendRaw(portOf(gateway.adminUrl), rawRequest(`GET ${path}`, headers));
      expect([path, headers, response.status]).toEqual([path, headers, 401]);
    }
    const right = rawRequest('GET /status', [`Authorization: Bearer ${ADMIN_TOKEN}`]);
    expect((await sendRaw(portOf(gateway.adminUrl), right)).status).toBe(200);
  });

  test('cannot be reached through the traffic port, also with its token', async () => {
    await using gateway = await start();
    for (const path of [
      ...ADMIN_PATHS,
      '/_gateway',
      '/_gateway/status',
      '/_gateway/metrics',
      '/_simulator/stats',
    ].flatMap(spellings)) {
      for (const method of ['GET', 'POST']) {
        for (const key of [BILLING_KEY, ADMIN_TOKEN]) {
          const headers = [`Authorization: Bearer ${key}`, 'Content-Length: 0'];
          const response = await sendRaw(gateway.port, rawRequest(`${method} ${path}`, headers));
          expect([path, Math.floor(response.status / 100)]).toEqual([path, 4]);
        }
      }
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
  });
});
