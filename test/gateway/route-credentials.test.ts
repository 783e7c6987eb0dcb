import { describe, expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { arrived, BILLING_KEY, type Config, codeOf, configuration, PRIMARY, run, TENANTS } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const VENDOR = { id: 'vendor', header: { name: 'X-Vendor-Key', value: 'fake-vendor-secret' } };
const TRACKER = { id: 'tracker', query: { name: 'api_key', value: 'fake tracker/secret+1' } };
const SHOP = { match: '* /shop/**', upstream: 'vendor', rewrite: '/admin/v2', credential: 'vendor' };
const TRACK = { match: '* /track/**', upstream: 'vendor', rewrite: '/', credential: 'tracker' };
const ALL = { match: '* /api/v1/**', upstream: 'core', credential: 'primary' };

interface Parts {
  readonly routes?: readonly object[];
  readonly credentials?: readonly object[];
  readonly more?: Config;
}

const config = ({ routes = [SHOP, TRACK, ALL], credentials = [PRIMARY, VENDOR, TRACKER], more = {} }: Parts = {}) => {
  return (upstream: string) =>
    configuration(upstream, {
      accounts: { main: { quota: { burst: 200 }, credentials } },
      upstreams: { core: { origin: upstream }, vendor: { origin: upstream } },
      routes,
      ...more,
    });
};

/** The simulator answers paths of another vendor with this. */
async function vendor(body: object = {}, headers: Record<string, string> = {}, parts: Parts = {}) {
  const gateway = await run({ config: config(parts) });
  const text = JSON.stringify(body).replaceAll('UPSTREAM', gateway.simulator.url);
  const all = Object.entries({ 'Content-Type': 'application/json', ...headers });
  const answered = Object.fromEntries(
    all.map(([name, value]) => [name, value.replace('UPSTREAM', gateway.simulator.url)]),
  );
  for (const match of ['* /admin/**', '* /orders/**', '* /other/**'])
    gateway.simulator.fault({
      match,
      where: 'ingress',
      fault: { kind: 'status', status: 200, body: text, headers: answered },
    });
  return gateway;
}

const targets = ({ simulator }: Awaited<ReturnType<typeof run>>) => simulator.arrivals().map(({ target }) => target);
const AUTH = `Authorization: ${BILLING_KEY}`;

describe('a route with a credential and another path at the upstream', () => {
  test('sends the rest of the path, the query and the body byte for byte, with its own credential alone', async () => {
    await using gateway = await vendor();
    const body = '{ "a" : 1 }\n';
    const target = '/shop/a%20b/%C3%A9/?x=%5B1%5D&y=a+b&z';
    const text = rawRequest(`POST ${target}`, [AUTH, `Content-Length: ${body.length}`], body);
    expect((await sendRaw(gateway.port, text)).status).toBe(200);
    const [arrival] = gateway.simulator.arrivals();
    expect(arrival).toMatchObject({ target: '/admin/v2/a%20b/%C3%A9/?x=%5B1%5D&y=a+b&z', bodyBytes: body.length });
    expect(arrived(arrival!.headers, 'x-vendor-key')).toBe('fake-vendor-secret');
    expect(arrived(arrival!.headers, 'authorization')).toBeUndefined();
    expect(arrival!.headers.join()).not.toContain(FAKE_PRIMARY_KEY);
  });

  test('drops a header of that name that a caller sends, in every spelling, and only there', async () => {
    await using gateway = await vendor();
    const forged = ['X-Vendor-Key', 'x-vendor-key', 'X_Vendor_Key', 'x.vendor-key', 'X-VENDOR-KEY'];
    const lines = [
      AUTH,
      ...forged.map((name) => `${name}: forged`),
      'Patchworks-Signature: forged',
      'patchworks_signature: forged',
    ];
    expect((await sendRaw(gateway.port, rawRequest('GET /shop/orders', lines))).status).toBe(200);
    expect((await sendRaw(gateway.port, rawRequest('GET /api/v1/flow-runs', lines))).status).toBe(200);
    const [own, other] = gateway.simulator.arrivals().map(({ headers }) => headers);
    expect(own!.filter((value) => value === 'forged')).toEqual([]);
    expect(own!.filter((name) => /vendor.key/i.test(name))).toEqual(['X-Vendor-Key']);
    // Elsewhere it is a header like any other; a signature never is.
    expect(other!.filter((value) => value === 'forged')).toHaveLength(forged.length);
    expect(other!.some((name) => /signature/i.test(name))).toBe(false);
  });

  test('sends nothing whose path may lead out of the new beginning', async () => {
    await using gateway = await vendor();
    for (const rest of [
      ...['/../secret', '/%2e%2e/secret', '/.%2E/x', '//x', '/a%2f..%2fx', '/..%5cx', '/..;/x', '/%252e%252e/x'],
      ...['/x/../../..', '%2f..', '/./x', '/a\\..\\x'],
    ]) {
      const response = await sendRaw(gateway.port, rawRequest(`GET /shop${rest}`, [AUTH]));
      expect([rest, response.status]).toEqual([rest, 400]);
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test('leads around no entry of the denylist', async () => {
    const routes = [{ match: '* /side/**', upstream: 'core', rewrite: '/api/v1' }, ALL];
    const reader = { ...TENANTS.reader, allow: ['GET /side/users', 'GET /side/**'] };
    await using gateway = await run({ config: config({ routes, more: { tenants: { ...TENANTS, reader } } }) });
    const response = await gateway.fetch('/side/users');
    expect([response.status, await codeOf(response)]).toEqual([403, 'route_forbidden']);
    expect((await gateway.fetch('/side/flow-runs')).status).toBe(200);
    const asReader = { headers: { Authorization: `Bearer ${'pgk_reader_fake-key-for-tests'}` } };
    // Named literally, as callers know it.
    expect((await gateway.fetch('/side/users', asReader)).status).toBe(200);
    expect((await gateway.fetch('/side/api-keys', asReader)).status).toBe(403);
    expect(targets(gateway)).toEqual(['/api/v1/flow-runs', '/api/v1/users']);
  });

  test('has links that lead back to the path of the caller', async () => {
    const next = 'UPSTREAM/admin/v2/orders?page=2';
    const other = 'UPSTREAM/other/x';
    await using gateway = await vendor(
      { links: { next, other }, meta: { path: 'UPSTREAM/admin/v2/orders' } },
      { Location: 'UPSTREAM/admin/v2/orders/7', Link: '<UPSTREAM/admin/v2/orders?page=3>; rel="next"' },
    );
    const response = await gateway.fetch('/shop/orders');
    expect(await response.json()).toEqual({
      links: { next: `${gateway.url}/shop/orders?page=2`, other: `${gateway.url}/other/x` },
      meta: { path: `${gateway.url}/shop/orders` },
    });
    expect(response.headers.get('location')).toBe(`${gateway.url}/shop/orders/7`);
    expect(response.headers.get('link')).toBe(`<${gateway.url}/shop/orders?page=3>; rel="next"`);
  });

  test('passes on no header in which the upstream repeats the secret', async () => {
    await using gateway = await vendor({}, { 'x-vendor-key': 'fake-vendor-secret', 'X-Kept': 'yes' });
    const response = await gateway.fetch('/shop/orders');
    expect(response.headers.get('x-kept')).toBe('yes');
    expect(JSON.stringify([...response.headers])).not.toContain('fake-vendor-secret');
  });

  test('gets 502 after a 401, at once while its credential rests, and no other credential is tried', async () => {
    await using gateway = await run({ config: config() });
    gateway.simulator.fault({ match: '* /admin/**', fault: { kind: 'status', status: 401 } });
    for (let i = 0; i < 2; i++) {
      const response = await gateway.fetch('/shop/orders');
      expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    }
    expect(targets(gateway)).toEqual(['/admin/v2/orders']);
    // The other credentials of the account are as good as before.
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(gateway.logText()).toContain('upstream rejected the credential');
    const { accounts } = (await (await fetch(`${gateway.adminUrl}/status`)).json()) as Status;
    expect(
      accounts.main.credentials.map(({ id, kind, named, inUse, failing }) => [id, kind, named, inUse, failing]),
    ).toEqual([
      ['primary', 'apiKey', true, true, false],
      ['vendor', 'header', true, false, true],
      ['tracker', 'query', true, true, false],
    ]);
  });

  test('without `credential`, the next one of the account is tried after a 401', async () => {
    const routes = [{ ...ALL, credential: undefined }];
    await using gateway = await run({ config: config({ credentials: [VENDOR, PRIMARY], routes }), cold: true });
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    const [first, second] = gateway.simulator.arrivals().map(({ headers }) => headers);
    expect([arrived(first!, 'x-vendor-key'), arrived(first!, 'authorization')]).toEqual([
      'fake-vendor-secret',
      undefined,
    ]);
    expect([arrived(second!, 'x-vendor-key'), arrived(second!, 'authorization')]).toEqual([
      undefined,
      FAKE_PRIMARY_KEY,
    ]);
  });

  test('is another one from a reload on, also for what is cached', async () => {
    const rules = [{ match: 'GET /shop/**', ttl: '10m' }];
    await using gateway = await vendor({}, {}, { more: { cache: { rules } } });
    for (let i = 0; i < 2; i++) await gateway.fetch('/shop/orders');
    const routes = [{ ...SHOP, rewrite: '/other/v3', credential: 'renewed' }, ALL];
    const credentials = [PRIMARY, { id: 'renewed', header: { name: 'X-Other-Key', value: 'fake-renewed' } }];
    await gateway.reload(config({ routes, credentials, more: { cache: { rules } } }));
    const response = await gateway.fetch('/shop/orders', { headers: { 'X-Vendor-Key': 'of the caller' } });
    expect(response.status).toBe(200);
    expect(targets(gateway)).toEqual(['/admin/v2/orders', '/other/v3/orders']);
    const { headers } = gateway.simulator.arrivals()[1]!;
    expect([arrived(headers, 'x-other-key'), arrived(headers, 'x-vendor-key')]).toEqual([
      'fake-renewed',
      'of the caller',
    ]);
    const shown = gateway.logText() + (await (await fetch(`${gateway.adminUrl}/config`)).text());
    expect(shown).toContain('"rewrite":"/other/v3"');
    for (const secret of ['fake-renewed', 'fake-vendor-secret', 'fake tracker']) expect(shown).not.toContain(secret);
  });
});

interface Status {
  readonly accounts: {
    readonly main: {
      readonly credentials: readonly { id: string; kind: string; named: boolean; inUse: boolean; failing: boolean }[];
    };
  };
}

describe('a secret in the query', () => {
  test('is added behind that of the caller, escaped, and stands in no log', async () => {
    await using gateway = await vendor();
    for (const path of ['/track/orders', '/track/orders?x=%5b1%5D&y=a+b']) await gateway.fetch(path);
    const secret = 'api_key=fake%20tracker%2Fsecret%2B1';
    expect(targets(gateway)).toEqual([`/orders?${secret}`, `/orders?x=%5b1%5D&y=a+b&${secret}`]);
    expect(gateway.simulator.arrivals()[0]!.headers.join()).not.toContain(FAKE_PRIMARY_KEY);
    expect(gateway.logText()).not.toContain('tracker%2Fsecret');
  });

  test('of a caller is refused on that route, in every spelling of its name', async () => {
    await using gateway = await vendor();
    const spellings = [
      ...[
        'api_key=x',
        'a=1&api_key=x',
        'API_KEY=x',
        'api%5Fkey=x',
        '%61pi_key',
        'api.key=x',
        'api+key=x',
        'api_key[]=x',
      ],
      ...['api[key=x', '%20api_key=x', 'api-key=x', 'api_key%00z=x'],
    ];
    for (const query of spellings) {
      const response = await sendRaw(gateway.port, rawRequest(`GET /track/orders?${query}`, [AUTH]));
      expect([query, response.status]).toEqual([query, 400]);
      expect(JSON.parse(response.body).detail).toContain('Leave out the query parameter `api_key`');
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
    // On another route it is a parameter like any other.
    for (const query of spellings)
      expect((await sendRaw(gateway.port, rawRequest(`GET /api/v1/flow-runs?${query}`, [AUTH]))).status).toBe(200);
  });

  test('that is a signature is refused on every route', async () => {
    await using gateway = await vendor();
    for (const query of [
      ...['patchworks_signature=x', 'a=1&patchworks_signature=x', 'Patchworks_Signature=x', 'patchworks%5fsignature=x'],
      ...['%70atchworks_signature=', 'patchworks.signature=x', 'patchworks-signature=x', 'patchworks_signature[0]=x'],
      ...['patchworks+signature=x', 'patchworks[signature=x', '+patchworks_signature=x'],
    ]) {
      for (const path of ['/api/v1/flow-runs', '/shop/orders', '/nowhere']) {
        const response = await sendRaw(gateway.port, rawRequest(`POST ${path}?${query}`, [AUTH]));
        expect([query, path, response.status]).toEqual([query, path, 400]);
        expect(JSON.parse(response.body).code).toBe('bad_request');
        expect(response.body).toContain('Leave out the query parameter `patchworks_signature`: a secret in a URL');
      }
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
  });
});
