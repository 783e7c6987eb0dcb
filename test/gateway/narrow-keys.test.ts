import { describe, expect, test } from 'vitest';
import { BILLING_KEY, type Config, codeOf, configuration, run, sha256, TENANTS } from '../support/gateway.ts';

const NARROW_KEY = 'pgk_billing_fake-narrow-key';
const AS_NARROW = { headers: { Authorization: NARROW_KEY } };

/** Billing has a second key with these options. Proxies on loopback are trusted: `X-Forwarded-For` chooses the address. */
const configOf =
  (key: Config, tenant: Config = {}) =>
  (upstream: string): Config => {
    const keys = [...TENANTS.billing.keys, { id: 'narrow', sha256: sha256(NARROW_KEY), ...key }];
    return configuration(upstream, {
      tenants: { ...TENANTS, billing: { ...TENANTS.billing, ...tenant, keys } },
      listen: {
        ...(configuration(upstream)['listen'] as Config),
        trustedProxies: ['127.0.0.0/8'],
      },
      limits: { failedAuth: 3 },
    });
  };
const from = (address: string) => ({ headers: { ...AS_NARROW.headers, 'X-Forwarded-For': address } });

describe('a key with cidrs', () => {
  const cidrs = ['10.0.0.0/8', '2001:db8::/32'];

  test('is let in from these addresses only; elsewhere nothing is sent, and other keys are not affected', async () => {
    await using gateway = await run({ config: configOf({ cidrs }) });
    const outside = ['11.0.0.1', '11.0.0.1', '11.0.0.1', '2001:db9::1', 'unknown', '10.0.0.1, 203.0.113.9', ''];
    for (const address of outside) {
      const response = await gateway.fetch('/api/v1/flow-runs', from(address));
      expect([address, response.status, await codeOf(response)]).toEqual([address, 403, 'address_forbidden']);
    }
    expect(gateway.simulator.arrivals()).toEqual([]);
    expect(await gateway.metric('patchgate_rejections_total', { tenant: 'billing', code: 'address_forbidden' })).toBe(
      outside.length,
    );
    for (const address of ['10.2.3.4', '2001:db8::7', '::ffff:10.0.0.1', '203.0.113.9, 10.0.0.1']) {
      expect([address, (await gateway.fetch('/api/v1/flow-runs', from(address))).status]).toEqual([address, 200]);
    }
    const other = { headers: { Authorization: BILLING_KEY, 'X-Forwarded-For': '11.0.0.1' } };
    // Requests from elsewhere were no failed authentications: three of those block an address.
    expect((await gateway.fetch('/api/v1/flow-runs', other)).status).toBe(200);
  });

  test('learns nothing about its tenant elsewhere', async () => {
    await using gateway = await run({ config: configOf({ cidrs }) });
    const response = await gateway.fetch('/_gateway/whoami', from('11.0.0.1'));
    expect([response.status, await response.json()]).toEqual([
      403,
      expect.objectContaining({
        code: 'address_forbidden',
        detail:
          'Key "narrow" of tenant "billing" may not be used from 11.0.0.1. Ask the platform team, and quote the request id.',
      }),
    ]);
    const inside = await (await gateway.fetch('/_gateway/whoami', from('10.0.0.1'))).json();
    expect(inside).toMatchObject({ key: { id: 'narrow', cidrs } });
  });
});

describe('a key with allow', () => {
  const ask = async (gateway: Awaited<ReturnType<typeof run>>, line: string, more: Record<string, string> = {}) => {
    const [method = '', path = ''] = line.split(' ');
    const headers = { ...AS_NARROW.headers, ...more };
    const response = await gateway.fetch(path, { method, headers, ...(method === 'POST' && { body: '{}' }) });
    return response.status === 403 ? codeOf(response) : response.status;
  };

  test('may call what both it and its tenant allow', async () => {
    const allow = ['GET /api/v1/flow-runs/**', 'POST /api/v1/flows/*/start/**'];
    await using gateway = await run({ config: configOf({ allow }, { allow: ['GET /api/v1/**'] }) });
    expect(await ask(gateway, 'GET /api/v1/flow-runs')).toBe(200);
    expect(await ask(gateway, 'GET /api/v1/flows')).toBe('route_forbidden');
    expect(await ask(gateway, 'POST /api/v1/flows/1/start')).toBe('route_forbidden');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    const whoami = await (await gateway.fetch('/_gateway/whoami', AS_NARROW)).json();
    expect(whoami).toMatchObject({ key: { allow }, permissions: { allow: ['GET /api/v1/**'] } });
  });

  test.each([[{}], [{ allow: ['* /**'] }]])(
    'does not open the denylist by naming its paths: tenant %j',
    async (tenant) => {
      const allow = ['GET /api/v1/users/**', '* /api/v1/api-keys/**'];
      await using gateway = await run({ config: configOf({ allow }, tenant) });
      expect(await ask(gateway, 'GET /api/v1/users')).toBe('route_forbidden');
      expect(await ask(gateway, 'POST /api/v1/api-keys')).toBe('route_forbidden');
      expect(gateway.simulator.arrivals()).toEqual([]);
    },
  );

  test('may call a denied path that its tenant names, also by a wildcard of its own, and no other key of the tenant is narrowed', async () => {
    const tenant = { allow: ['GET /api/v1/users/**', 'GET /api/v1/flows/**'] };
    await using gateway = await run({ config: configOf({ allow: ['GET /api/v1/users/**'] }, tenant) });
    expect(await ask(gateway, 'GET /api/v1/users')).not.toBe('route_forbidden');
    expect(await ask(gateway, 'GET /api/v1/flows')).toBe('route_forbidden');
    expect((await gateway.fetch('/api/v1/flows')).status).toBe(200);
    await gateway.reload(configOf({ allow: ['GET /api/**'] }, tenant));
    expect(await ask(gateway, 'GET /api/v1/users')).not.toBe('route_forbidden');
  });

  test('is narrowed also where its tenant is observed; that is no prediction', async () => {
    const tenant = { enforcement: 'observe', allow: ['GET /api/v1/flows/**'] };
    const key = { allow: ['GET /api/v1/flow-runs/**'], cidrs: ['127.0.0.0/8'] };
    await using gateway = await run({ config: configOf(key, tenant) });
    const predicted = () => gateway.metric('patchgate_would_reject_total', { code: 'route_forbidden' });
    const before = await predicted();
    expect(await ask(gateway, 'GET /api/v1/flows')).toBe('route_forbidden');
    expect(await ask(gateway, 'GET /api/v1/flow-runs', { 'X-Forwarded-For': '10.0.0.1' })).toBe('address_forbidden');
    expect(await predicted()).toBe(before);
    expect(await ask(gateway, 'GET /api/v1/flow-runs')).toBe(200);
    expect(await predicted()).toBe(before + 1);
  });
});

test('a stored response and a stored first response are kept from a key that may not call their path, or not from there', async () => {
  await using gateway = await run({ config: configOf({ cidrs: ['10.0.0.0/8'], allow: ['* /api/v1/flow-runs/**'] }) });
  const start = { method: 'POST', body: '{}', headers: { 'Idempotency-Key': 'first', Authorization: BILLING_KEY } };
  for (const path of ['/api/v1/flows', '/api/v1/flows']) await (await gateway.fetch(path)).arrayBuffer();
  const hit = await gateway.fetch('/api/v1/flows');
  expect(hit.headers.get('cache-status')).toContain('hit');
  expect((await gateway.fetch('/api/v1/flows/1/start', start)).status).toBe(200);
  const sent = gateway.simulator.arrivals().length;
  const inside = { Authorization: NARROW_KEY, 'X-Forwarded-For': '10.0.0.1' };
  const answers = [
    await gateway.fetch('/api/v1/flows', { headers: inside }),
    await gateway.fetch('/api/v1/flows', from('192.0.2.1')),
    await gateway.fetch('/api/v1/flows/1/start', { ...start, headers: { ...start.headers, ...inside } }),
    await gateway.fetch('/api/v1/flows/1/start', {
      ...start,
      headers: { ...start.headers, ...from('192.0.2.1').headers },
    }),
  ];
  const codes = ['route_forbidden', 'address_forbidden', 'route_forbidden', 'address_forbidden'];
  expect(await Promise.all(answers.map(codeOf))).toEqual(codes);
  expect(answers.map(({ headers }) => headers.get('cache-status'))).toEqual([null, null, null, null]);
  expect(gateway.simulator.arrivals()).toHaveLength(sent);
});
