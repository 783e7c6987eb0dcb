import { describe, expect, test } from 'vitest';
import { problems } from '../../src/problem.ts';
import {
  BILLING_KEY,
  codeOf,
  configuration,
  DISABLED_KEY,
  EXPIRED_KEY,
  PRIMARY,
  READER_KEY,
  run,
  SPARE,
  sha256,
} from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;

describe('a rejected request gets a problem document, and does not reach the upstream', () => {
  test.each([
    ['no key', [], 'key_missing'],
    ['an empty key', ['Authorization: Bearer '], 'key_missing'],
    ['an unknown key', ['Authorization: Bearer nonsense'], 'key_unknown'],
    ['the digest of a key', [`Authorization: ${sha256(BILLING_KEY)}`], 'key_unknown'],
    [
      'an expired key',
      [`X-API-Key: ${EXPIRED_KEY}`],
      'key_expired',
      'Key "old" of tenant "billing" expired on 2020-01-01T00:00:00.000Z. Ask the platform team for a new one.',
    ],
    [
      'a disabled tenant',
      [`X-API-Key: ${DISABLED_KEY}`],
      'tenant_disabled',
      'Tenant "disabled" is disabled. Ask the platform team.',
    ],
    ['two keys that disagree', [AUTH, `X-API-Key: ${READER_KEY}`], 'key_conflict'],
    ['two Authorization headers that disagree', [AUTH, `Authorization: ${READER_KEY}`], 'key_conflict'],
  ] as const)('%s', async (_name, headers, code, text: string = problems[code].detail) => {
    await using gateway = await run();
    const answer = await sendRaw(gateway.port, rawRequest('GET /api/v1/flow-runs', [...headers]));
    const body = JSON.parse(answer.body);
    expect(answer.status).toBe(problems[code].status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(body).toEqual({
      type: `urn:patchgate:problem:${code}`,
      title: problems[code].title,
      status: problems[code].status,
      detail: text,
      code,
      requestId: answer.headers['x-request-id'],
      message: text,
    });
    if (answer.status === 401) expect(answer.headers['www-authenticate']).toMatch(/^Bearer realm="patchgate"/);
    expect(gateway.simulator.arrivals()).toEqual([]);
    expect(await gateway.metric('patchgate_rejections_total', { code })).toBe(1);
  });

  test.each([
    ['GET', '/api/v1/users', BILLING_KEY, 'route_forbidden'],
    ['PUT', '/api/v2/companies/1/manage', BILLING_KEY, 'route_forbidden'],
    ['POST', '/api/v1/login', BILLING_KEY, 'route_forbidden'],
    ['POST', '/api/v1/flows/1/start', READER_KEY, 'route_forbidden'],
    ['GET', '/api/v2/my/user', READER_KEY, 'route_forbidden'],
    ['GET', '/somewhere', BILLING_KEY, 'route_unknown'],
    ['GET', '/_gateway/other', BILLING_KEY, 'route_unknown'],
    ['POST', '/api/v1/data-pool?_method=DELETE', BILLING_KEY, 'bad_request'],
    ['POST', '/api/v1/data-pool?%5Fmethod=DELETE', BILLING_KEY, 'bad_request'],
  ] as const)('%s %s', async (method, path, key, code) => {
    await using gateway = await run();
    const response = await gateway.fetch(path, { method, headers: { Authorization: key } });
    expect([response.status, await codeOf(response)]).toEqual([problems[code].status, code]);
    expect(gateway.simulator.arrivals()).toEqual([]);
  });
});

const NO_ROUTE = 'The gateway has no route for this method and path. Paths begin with `/api/v1`.';

describe('a rejection says what is wrong with this request', () => {
  test.each([
    [
      ['POST', '/api/v1/flows/1/start?flow_variables=x', READER_KEY],
      'Tenant "reader" may not call POST /api/v1/flows/1/start: its permissions, which `GET /_gateway/whoami` lists, do not include it. Ask the platform team for permission.',
    ],
    [
      ['GET', '/api/v1/users', BILLING_KEY],
      'Tenant "billing" may not call GET /api/v1/users: logins, keys and users of the account are closed unless a permission names them. Ask the platform team for permission.',
    ],
    [['GET', '/', ''], NO_ROUTE],
    [['GET', '/flows?x=1', ''], NO_ROUTE],
    [['GET', '/api/v1x', ''], NO_ROUTE],
    [
      ['POST', `/api/v1/flows/${'x'.repeat(500)}/start`, READER_KEY],
      `Tenant "reader" may not call POST /api/v1/flows/${'x'.repeat(186)}...: its permissions, which \`GET /_gateway/whoami\` lists, do not include it. Ask the platform team for permission.`,
    ],
    [
      ['GET', '/api/v1//flows', ''],
      'The path has an empty segment (`//`): join base URL and path with one slash. Send it in canonical form.',
    ],
    [['GET', '/api/v1/../flows', ''], 'The path has a dot segment. Send it in canonical form.'],
    [
      ['GET', '/api/v1/flows', 'Basic dXNlcjpwYXNzd29yZA=='],
      '`Authorization` has another scheme than Bearer. Send your gateway key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.',
    ],
    [['GET', '/api/v1/flows', 'Bearer nonsense'], problems.key_unknown.detail],
  ] as const)('%j', async ([method, path, key], detail) => {
    await using gateway = await run();
    const headers = key === '' ? [] : [`Authorization: ${key}`];
    const { body } = await sendRaw(gateway.port, rawRequest(`${method} ${path}`, headers));
    expect(JSON.parse(body)).toMatchObject({ detail, message: detail });
  });

  test('and a 429 the rate and the burst of the tenant', async () => {
    const keys = [{ id: 'k', sha256: sha256(BILLING_KEY) }];
    const tenants = { billing: { keys, quota: { rate: 30, burst: 1, maxWait: '0s' } } };
    await using gateway = await run({ config: (upstream) => configuration(upstream, { tenants }), cold: true });
    const ask = () => gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: BILLING_KEY } });
    expect((await ask()).status).toBe(200);
    expect(await (await ask()).json()).toMatchObject({
      code: 'tenant_quota',
      detail:
        'Tenant "billing" may send 30 requests a minute, and 1 at once. Nothing of that is left. Retry after the time given.',
    });
  });
});

describe('a target with two readings', () => {
  test.each([
    '/api/v1/../users',
    '/api/v1/%2e%2e/users',
    '/api/v1/.%2E/users',
    '/api/v1/flows%2f..%2fusers',
    '/api/v1/%252e%252e/users',
    '/api/v1/flows%00',
    '/api/v1/flows\\..\\users',
    '/api/v1//users',
    '//evil.test/api/v1/flows',
    '/api/v1/%zz',
    '/api/v1/..;/users',
    '/_gateway/../api/v1/users',
    '/api/v1/../../_gateway/whoami',
  ])('%s is rejected with 400', async (target) => {
    await using gateway = await run();
    const answer = await sendRaw(gateway.port, rawRequest(`GET ${target}`, [AUTH]));
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([400, 'path_not_canonical']);
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test.each(['http://core.wearepatchworks.com/api/v1/flow-runs', 'https://evil.test/', '*', 'evil.test:443'])(
    'that is no path is refused: %s',
    async (target) => {
      await using gateway = await run();
      const method = target === '*' ? 'OPTIONS' : 'GET';
      const answer = await sendRaw(gateway.port, rawRequest(`${method} ${target}`, [AUTH]));
      expect(answer.status).toBe(400);
      expect(JSON.parse(answer.body).code).toBe('bad_request');
      expect(gateway.simulator.arrivals()).toEqual([]);
    },
  );
});

describe('malformed HTTP is rejected with 4xx, does not reach the upstream, and does not end the process', () => {
  const good = `Host: x\r\n${AUTH}\r\n`;
  test.each([
    ['no HTTP', 'HELO mail.test\r\n\r\n'],
    ['NUL in the target', `GET /api/v1/fl\0ows HTTP/1.1\r\n${good}\r\n`],
    ['NUL in a header', `GET /api/v1/flow-runs HTTP/1.1\r\n${good}X-A: a\0b\r\n\r\n`],
    ['space in a header name', `GET /api/v1/flow-runs HTTP/1.1\r\n${good}X A: b\r\n\r\n`],
    ['space before the colon', `POST /api/v1/data-pool HTTP/1.1\r\n${good}Content-Length : 2\r\n\r\n{}`],
    ['a folded header', `GET /api/v1/flow-runs HTTP/1.1\r\n${good}X-A: b\r\n c\r\n\r\n`],
    [
      'both Content-Length and Transfer-Encoding',
      `POST /api/v1/data-pool HTTP/1.1\r\n${good}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    [
      'two Content-Lengths',
      `POST /api/v1/data-pool HTTP/1.1\r\n${good}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`,
    ],
    [
      'an unknown transfer coding',
      `POST /api/v1/data-pool HTTP/1.1\r\n${good}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a negative length', `POST /api/v1/data-pool HTTP/1.1\r\n${good}Content-Length: -2\r\n\r\n{}`],
    ['no Host', `GET /api/v1/flow-runs HTTP/1.1\r\nConnection: close\r\n${AUTH}\r\n\r\n`],
    [
      'a Host with a path',
      `GET /api/v1/flow-runs HTTP/1.1\r\nConnection: close\r\nHost: evil.test/x\r\n${AUTH}\r\n\r\n`,
    ],
    ['TRACE', rawRequest('TRACE /api/v1/flow-runs', [AUTH])],
    ['an invented method', rawRequest('BREW /api/v1/flow-runs', [AUTH])],
    ['headers above 32 KiB', rawRequest('GET /api/v1/flow-runs', [AUTH, `X-Big: ${'x'.repeat(40_000)}`])],
    [
      '100 MB of headers',
      Buffer.concat([
        Buffer.from(`GET /api/v1/flow-runs HTTP/1.1\r\n${good}`),
        Buffer.alloc(100_000_000, 'X-A: aaaaaaaaaaaaaaaa\r\n'),
      ]),
    ],
  ])('%s', async (_name, bytes) => {
    await using gateway = await run();
    const answer = await sendRaw(gateway.port, bytes);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(problems).toHaveProperty(JSON.parse(answer.body).code);
    expect(gateway.simulator.arrivals()).toEqual([]);
    expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
  });

  test('a pipelined second request is not read as part of the first', async () => {
    await using gateway = await run();
    const first = `POST /api/v1/flows/1/start HTTP/1.1\r\nHost: x\r\n${AUTH}\r\nContent-Length: 2\r\n\r\n{}`;
    const answer = await sendRaw(gateway.port, first + rawRequest('GET /api/v1/users', [AUTH]));
    expect(answer.text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 403']);
    expect(gateway.simulator.arrivals().map((each) => each.target)).toEqual(['/api/v1/flows/1/start']);
  });

  test('CONNECT and Upgrade open no tunnel', async () => {
    await using gateway = await run();
    const connect = await sendRaw(
      gateway.port,
      `CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n${AUTH}\r\n\r\n`,
      500,
    ).catch((error) => error);
    expect(String(connect.text ?? '')).not.toMatch(/^HTTP\/1\.1 2/);
    const upgrade = await sendRaw(
      gateway.port,
      `GET /api/v1/flow-runs HTTP/1.1\r\n${good}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
    );
    expect(upgrade.status).toBe(200);
    expect(JSON.stringify(gateway.simulator.arrivals())).not.toMatch(/upgrade/i);
  });
});

describe('tenants of two accounts', () => {
  test('use their own accounts, though the paths are the same', async () => {
    await using gateway = await run({
      cold: true,
      config: (upstream) =>
        configuration(upstream, {
          accounts: { main: { credentials: [PRIMARY] }, other: { credentials: [SPARE] } },
          upstreams: { core: { account: 'main', origin: upstream }, twin: { account: 'other', origin: upstream } },
          routes: [
            { match: '* /api/v1/**', upstream: 'core' },
            { match: '* /api/v1/**', upstream: 'twin' },
            { match: 'GET /api/v2/**', upstream: 'core' },
          ],
          tenants: {
            one: { account: 'main', keys: [{ id: 'k', sha256: sha256('fake-one') }] },
            two: { account: 'other', keys: [{ id: 'k', sha256: sha256('fake-two') }] },
          },
        }),
    });
    for (const key of ['fake-one', 'fake-two']) {
      expect((await gateway.fetch('/api/v1/flows/1', { headers: { Authorization: key } })).status).toBe(200);
    }
    expect(gateway.simulator.arrivals().map((each) => each.credential)).toEqual(['primary', 'spare']);
    const foreign = await gateway.fetch('/api/v2/companies', { headers: { Authorization: 'fake-two' } });
    expect(await codeOf(foreign)).toBe('route_forbidden');
  });
});
