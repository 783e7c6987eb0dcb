import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, codeOf, configuration, PRIMARY, READER_KEY, run, SPARE, sha256 } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;

describe('paths that are denied to every tenant stay denied', () => {
  const denied = ['/api/v1/login', '/api/v1/users/3', '/api/v1/api-keys', '/api/v2/companies/9/manage', '/api/login'];
  const escaped = (path: string, index: number) =>
    `${path.slice(0, index)}%${path.charCodeAt(index).toString(16)}${path.slice(index + 1)}`;
  const spellings = (path: string) => [
    path,
    path.toUpperCase(),
    path.replace(/[^/]+$/, (last) => last[0]!.toUpperCase() + last.slice(1)),
    ...Array.from(path, (char, index) => (char === '/' ? '' : escaped(path, index))).filter((each) => each !== ''),
    ...[
      '/',
      '?x=1',
      '?',
      ';a=b',
      '%3Ba',
      '.json',
      '.',
      '%20',
      '%09',
      '/.',
      '//',
      '/%2e',
      '%00',
      '%2f',
      '/x/..',
      '%E2%80%8B',
    ].map((end) => path + end),
    ...[
      '/fabric',
      '/core-main',
      '/core-start',
      '/index.php',
      '/core-main/index.php',
      '/./',
      '//',
      '/x/..',
      '/FABRIC',
    ].map((front) => front + path),
    path.replaceAll('a', '%EF%BD%81').replaceAll('s', '%C5%BF'),
    path.replace(/\/([^/]+)$/, '\\$1'),
    path.replace(/\/([^/]+)$/, '/;x/$1'),
    path.replace(/\/([^/]+)$/, '/%E2%80%8B/$1'),
  ];

  test.each([
    ['without a list', {}],
    ['whose wildcards cover everything', { allow: ['* /**', '* /*/**', '* /api/**', '* /api/*/companies/*/*'] }],
  ])('to a tenant %s, in every spelling, by every method, also with a catch-all route', async (_name, more) => {
    const keys = [{ id: 'k', sha256: sha256(BILLING_KEY) }];
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          routes: [{ match: '* /**', upstream: 'core' }],
          tenants: { billing: { keys, quota: { burst: 200 }, ...more } },
          limits: { requestsPerSecond: 100_000 },
        }),
    });
    for (const path of denied.flatMap(spellings)) {
      for (const method of ['GET', 'POST']) {
        const answer = await sendRaw(gateway.port, rawRequest(`${method} ${path}`, [AUTH, 'Content-Length: 0']));
        expect([path, [400, 403].includes(answer.status)]).toEqual([path, true]);
      }
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test.each([
    '_method=DELETE',
    '%5Fmethod=DELETE',
    '.method=DELETE',
    '%2Emethod=DELETE',
    '%20method=x&+_method=DELETE',
    '_method%00x=DELETE',
    'a=b&_method[]=DELETE',
    '_method%5B%5D=DELETE',
    '%20%20.method=DELETE',
  ])('another method by the query, as PHP reads it: ?%s', async (query) => {
    await using gateway = await run();
    const answer = await sendRaw(
      gateway.port,
      rawRequest(`POST /api/v1/data-pool?${query}`, [AUTH, 'Content-Length: 0']),
    );
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([400, 'bad_request']);
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test('another method or path by a header, in any spelling of its name', async () => {
    await using gateway = await run();
    const names = [
      'X-HTTP-Method-Override',
      'X_HTTP_Method_Override',
      'X-Method_Override',
      'x_original_url',
      'X-Rewrite-URL',
      'X-Forwarded-Path',
      'X_Forwarded_For',
      'Proxy',
      'X-Forwarded-Anything',
    ];
    const lines = names.map((name) => `${name}: /api/v1/users`);
    expect((await sendRaw(gateway.port, rawRequest('GET /api/v1/flow-runs', [AUTH, ...lines]))).status).toBe(200);
    expect(JSON.stringify(gateway.simulator.arrivals()[0]!.headers)).not.toContain('/api/v1/users');
  });
});

/** Headers by which other gateways identify callers or resources. */
const CLAIMS = [
  'X-Tenant',
  'X-Tenant-Id',
  'X-Account',
  'X-User',
  'X-Forwarded-User',
  'X-Consumer-ID',
  'X-Api-Key-Id',
  'From',
  'Cookie',
];

describe('a tenant gets nothing of other tenants by any header', () => {
  test('neither the first response to a write, nor a conflict with it', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          tenants: {
            billing: { keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }] },
            reader: { keys: [{ id: 'k', sha256: sha256(READER_KEY) }], quota: { burst: 100 } },
          },
        }),
    });
    const start = (key: string, more: Record<string, string>) =>
      gateway.fetch('/api/v1/flows/1/start', {
        method: 'POST',
        body: '{}',
        headers: { Authorization: key, 'Idempotency-Key': 'order-1', ...more },
      });
    expect((await start(BILLING_KEY, {})).status).toBe(200);
    const claims = CLAIMS.map((name, i): [string, string] => [name, i % 2 === 0 ? 'billing' : 'tenant=billing']);
    const own = await start(READER_KEY, Object.fromEntries(claims));
    expect([own.status, own.headers.get('idempotency-replayed')]).toEqual([200, null]);
    for (const key of ['billing\torder-1', 'billing order-1', 'billing%0Aorder-1', '"billing\\norder-1"']) {
      expect((await start(READER_KEY, { 'Idempotency-Key': key })).headers.get('idempotency-replayed')).toBeNull();
    }
    const repeated = await start(BILLING_KEY, {});
    expect(repeated.headers.get('idempotency-replayed')).toBe('true');
  });

  test('no response from the cache of another account', async () => {
    await using gateway = await run({
      cold: true,
      config: (upstream) =>
        configuration(upstream, {
          accounts: { main: { credentials: [PRIMARY] }, other: { credentials: [SPARE] } },
          upstreams: { core: { account: 'main', origin: upstream }, twin: { account: 'other', origin: upstream } },
          routes: [
            { match: '* /api/v1/**', upstream: 'core' },
            { match: '* /api/v1/**', upstream: 'twin' },
          ],
          cache: { rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] },
          tenants: {
            one: { account: 'main', keys: [{ id: 'k', sha256: sha256('fake-one') }] },
            two: { account: 'other', keys: [{ id: 'k', sha256: sha256('fake-two') }], quota: { burst: 100 } },
          },
        }),
    });
    const read = async (key: string, more: Record<string, string> = {}) =>
      (await gateway.fetch('/api/v1/flows/1', { headers: { Authorization: key, ...more } })).headers.get(
        'cache-status',
      ) ?? '';
    await read('fake-one');
    expect(await read('fake-one')).toMatch(/hit/);
    const claims = Object.fromEntries(CLAIMS.map((name) => [name, 'main one']));
    expect(await read('fake-two', { ...claims, 'Cache-Control': 'only-if-cached' })).not.toMatch(/hit/);
    expect(await read('fake-two', { ...claims, 'X-Forwarded-Host': 'main' })).toMatch(/fwd=miss/);
    expect(gateway.simulator.arrivals().map((each) => each.credential)).toEqual(['primary', 'spare']);
  });
});

describe('no request leads the gateway or its caller elsewhere', () => {
  test('by path, Host, absolute target or forwarding header: no connection and no redirect is made', async () => {
    await using gateway = await run();
    let connections = 0;
    const elsewhere = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const { port } = elsewhere.address() as { port: number };
    const there = `127.0.0.1:${port}`;
    const requests = [
      rawRequest(`GET http://${there}/api/v1/flow-runs`, [AUTH]),
      rawRequest(`GET //${there}/api/v1/flow-runs`, [AUTH]),
      rawRequest(`GET /\\${there}/api/v1/flow-runs`, [AUTH]),
      rawRequest(`GET /%2f${there}/api/v1/flow-runs`, [AUTH]),
      rawRequest(`GET @${there}/api/v1/flow-runs`, [AUTH]),
      rawRequest(`GET /api/v1/flow-runs@${there}`, [AUTH]),
      rawRequest(`GET /api/v1/http://${there}/`, [AUTH]),
      rawRequest(`GET ${there}`, [AUTH]),
      rawRequest(`CONNECT ${there}`, [AUTH]),
      rawRequest(`OPTIONS http://${there}/`, [AUTH]),
      rawRequest('GET /api/v1/flow-runs', [AUTH]).replace('gateway.test', there),
      ...[
        'X-Forwarded-Host',
        'X-Forwarded-Server',
        'X-Host',
        'Forwarded',
        'X-Original-URL',
        'Proxy',
        'Referer',
        'Origin',
        'Destination',
      ].map((name) =>
        rawRequest('GET /api/v1/flow-runs', [AUTH, `${name}: ${name === 'Forwarded' ? 'host=' : 'http://'}${there}`]),
      ),
    ];
    for (const bytes of requests) {
      const answer = await sendRaw(gateway.port, bytes).catch(() => null);
      if (answer === null || answer.text === '') continue;
      expect([bytes.split('\r\n')[0], answer.status < 300 || answer.status >= 400]).toEqual([
        bytes.split('\r\n')[0],
        true,
      ]);
      expect(answer.headers['location']).toBeUndefined();
    }
    expect(connections).toBe(0);
    const hosts = gateway.simulator
      .arrivals()
      .map(({ headers }) => headers[headers.findIndex((name) => /^host$/i.test(name)) + 1]);
    expect(new Set(hosts)).toEqual(new Set([new URL(gateway.simulator.url).host]));
    await new Promise((resolve) => elsewhere.close(resolve));
  });

  test('a trailing slash, another case or a missing path gets a response, never a redirect', async () => {
    await using gateway = await run();
    for (const path of ['/api/v1/flow-runs/', '/API/v1/flow-runs', '/', '/api', '/_gateway', '/_gateway/whoami/']) {
      const response = await gateway.fetch(path);
      expect([path, response.headers.get('location')]).toEqual([path, null]);
      if (response.status >= 400) expect(await codeOf(response)).toMatch(/^route_/);
    }
  });
});
