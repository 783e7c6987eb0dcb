import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type { IssuerStatus, StatusDocument } from '../../src/admin/status/document.ts';
import { authority } from '../support/certificate-authority.ts';
import {
  arrived,
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  run,
  sha256,
} from '../support/gateway.ts';
import { ecKey, ISSUER, type JwksServer, jwksServer, mint, rsaKey, type TestKey } from '../support/issuer.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { folder } from '../support/process.ts';

const FLOWS = '/api/v1/flow-runs';
const rsa = rsaKey('rsa-1');
const ec = ecKey('ec-1');

/** The tenant `billing` by its key, the others by tokens. */
const tenants: Config = {
  ...(configuration('')['tenants'] as Config),
  worker: {
    identities: [{ issuer: 'cluster', subject: 'system:serviceaccount:billing:worker' }],
    quota: { burst: 200 },
  },
  pipeline: {
    identities: [{ id: 'ci', issuer: 'cluster', claims: { repository: 'team/billing', ref: 'refs/heads/main' } }],
  },
  dotted: { keys: [{ id: 'dotted', sha256: sha256('pgk_a.b_c.d') }], quota: { burst: 200 } },
  off: { disabled: true, identities: [{ issuer: 'cluster', subject: 'off' }] },
  left: { identities: [{ issuer: 'cluster', claims: { left: true } }] },
  right: { identities: [{ issuer: 'cluster', claims: { groups: 'right' } }] },
};
const issuer = (jwks: Config, more: Config = {}): Config => ({
  identity: {
    issuers: { cluster: { issuer: ISSUER, audience: ['other', 'patchgate'], jwks, ...more } },
  },
});
const byUrl =
  (server: JwksServer, more: Config = {}) =>
  (upstream: string) =>
    configuration(upstream, { ...issuer({ url: server.url }, more), tenants, limits: { failedAuth: 1_000 } });
const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

async function statusOf(adminUrl: string): Promise<IssuerStatus> {
  const status = (await (await fetch(`${adminUrl}/status`)).json()) as StatusDocument;
  return status.issuers['cluster'] as IssuerStatus;
}

async function withKeys(more: Config = {}, clock?: ManualClock, ...keys: TestKey[]) {
  const server = await jwksServer();
  server.publish(...(keys.length === 0 ? [rsa, ec] : keys));
  const gateway = await run({ config: byUrl(server, more), ...(clock && { clock }) });
  await eventually(async () => (await gateway.metric('patchgate_issuer_keys')) > 0, 'keys are read');
  return {
    ...gateway,
    server,
    [Symbol.asyncDispose]: async () => {
      await gateway[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

describe('a token of an issuer', () => {
  test('identifies a tenant by its subject or by its claims, and goes no further', async () => {
    await using gateway = await withKeys();
    const tokens = {
      worker: mint(rsa),
      pipeline: mint(ec, { claims: { sub: 'x', repository: 'team/billing', ref: 'refs/heads/main', extra: 1 } }),
    };
    for (const [tenant, token] of Object.entries(tokens)) {
      const response = await gateway.fetch(FLOWS, bearer(token));
      expect([tenant, response.status]).toEqual([tenant, 200]);
    }
    for (const { headers } of gateway.simulator.arrivals()) {
      expect(headers.join(' ')).not.toContain('eyJ');
      expect(arrived(headers, 'Authorization')).toBe('fake-patchworks-key-primary');
    }
    const ids = gateway.logs().map(({ tenant, key }) => [tenant, key]);
    expect(ids).toContainEqual(['worker', 'cluster:system:serviceaccount:billing:worker']);
    expect(ids).toContainEqual(['pipeline', 'ci']);
    expect(gateway.logText()).not.toContain('eyJ');
  });

  test('is an identity for whoami, with the expiry of the token', async () => {
    await using gateway = await withKeys();
    const now = Date.now();
    const me = await (await gateway.fetch('/_gateway/whoami', bearer(mint(rsa, { now })))).json();
    const expires = new Date((Math.floor(now / 1000) + 3607) * 1000).toISOString();
    expect(me).toMatchObject({
      tenant: 'worker',
      identity: { id: 'cluster:system:serviceaccount:billing:worker', expires },
    });
    expect(me).not.toHaveProperty('key');
  });

  test('may be narrowed like a key, and its last use is known like that of a key', async () => {
    const narrowed = {
      identities: [
        { id: 'ci', issuer: 'cluster', subject: 'narrow', allow: ['GET /api/v1/flow-runs'], cidrs: ['127.0.0.0/8'] },
      ],
    };
    const elsewhere = { identities: [{ issuer: 'cluster', subject: 'elsewhere', cidrs: ['192.0.2.0/24'] }] };
    const server = await jwksServer();
    server.publish(rsa);
    try {
      const config = (upstream: string) => ({
        ...byUrl(server)(upstream),
        tenants: { ...tenants, narrowed, elsewhere },
      });
      await using gateway = await run({ config });
      await eventually(async () => (await gateway.metric('patchgate_issuer_keys')) > 0, 'keys are read');
      const as = (sub: string) => bearer(mint(rsa, { claims: { sub } }));
      const used = () =>
        gateway.metric('patchgate_tenant_key_last_used_timestamp_seconds', { tenant: 'narrowed', key: 'ci' });
      expect(await used()).toBe(0);
      const answers = [
        await gateway.fetch('/api/v1/flows', as('narrow')),
        await gateway.fetch(FLOWS, as('elsewhere')),
        await gateway.fetch('/_gateway/whoami', as('elsewhere')),
      ];
      expect(await Promise.all(answers.map(codeOf))).toEqual([
        'route_forbidden',
        'address_forbidden',
        'address_forbidden',
      ]);
      expect(gateway.simulator.arrivals()).toEqual([]);
      expect((await gateway.fetch(FLOWS, as('narrow'))).status).toBe(200);
      expect(await used()).toBeGreaterThan(0);
      const status = (await (await fetch(`${gateway.adminUrl}/status`)).json()) as StatusDocument;
      expect(status.tenants['narrowed']?.keys).toMatchObject([{ id: 'ci', kind: 'identity', expires: null }]);
      expect(status.tenants['elsewhere']?.keys).toMatchObject([{ id: 'cluster:elsewhere', lastUsed: null }]);
    } finally {
      await server[Symbol.asyncDispose]();
    }
  });

  test('by a file with the keys is the same, and a reload of the file replaces them', async () => {
    const file = { jwks: JSON.stringify({ keys: [rsa.jwk] }) };
    const config = (upstream: string) => configuration(upstream, { ...issuer({ file: 'jwks.json' }), tenants });
    await using gateway = await run({ config, files: (path) => (path.endsWith('/jwks.json') ? file.jwks : undefined) });
    expect((await gateway.fetch(FLOWS, bearer(mint(rsa)))).status).toBe(200);
    expect((await gateway.fetch(FLOWS, bearer(mint(ec)))).status).toBe(401);
    file.jwks = JSON.stringify({ keys: [ec.jwk] });
    await gateway.reload(config);
    expect((await gateway.fetch(FLOWS, bearer(mint(rsa)))).status).toBe(401);
    expect((await gateway.fetch(FLOWS, bearer(mint(ec)))).status).toBe(200);
    file.jwks = '{"keys":[]}';
    await gateway.reload(config);
    expect((await gateway.fetch(FLOWS, bearer(mint(ec)))).status).toBe(200);
    expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'refused' })).toBe(1);
  });

  test('is no token where no issuer is configured, and a key of the same form goes on to work beside issuers', async () => {
    await using plain = await run();
    expect(await codeOf(await plain.fetch(FLOWS, bearer(mint(rsa))))).toBe('key_unknown');
    await using gateway = await withKeys();
    expect((await gateway.fetch(FLOWS, bearer('pgk_a.b_c.d'))).status).toBe(200);
    const { status } = await gateway.fetch(FLOWS, { headers: { Authorization: '', 'X-API-Key': mint(rsa) } });
    expect(status).toBe(401);
    expect(await codeOf(await gateway.fetch(FLOWS, { headers: { Authorization: mint(rsa) } }))).toBe('key_unknown');
  });

  test('of no tenant is rejected, and its subject named to who can prove it', async () => {
    await using gateway = await withKeys();
    const ask = async (key: TestKey) =>
      (await gateway.fetch(FLOWS, bearer(mint(key, { claims: { sub: 'someone' } })))).json();
    const detail = 'No tenant of the gateway has the identity "someone". Ask the platform team to add it.';
    expect(await ask(rsa)).toMatchObject({ code: 'identity_unknown', detail });
    const { detail: forged } = (await ask(rsaKey('rsa-1'))) as { detail: string };
    expect(forged).not.toContain('someone');
  });

  test('of a disabled tenant is rejected, and so is one that two tenants have', async () => {
    await using gateway = await withKeys();
    const both = mint(rsa, { claims: { left: true, groups: ['a', 'right'] } });
    expect(await codeOf(await gateway.fetch(FLOWS, bearer(mint(rsa, { claims: { sub: 'off' } }))))).toBe(
      'tenant_disabled',
    );
    const refused = await gateway.fetch(
      FLOWS,
      bearer(mint(rsa, { claims: { sub: 'two', left: true, groups: ['a', 'right'] } })),
    );
    expect(await codeOf(refused)).toBe('identity_unknown');
    // The subject belongs to a third one.
    expect(await codeOf(await gateway.fetch(FLOWS, bearer(both)))).toBe('identity_unknown');
    expect(gateway.logs().at(-1)?.['internal']).toContain('identity_ambiguous');
    expect(await gateway.metric('patchgate_token_rejections_total', { reason: 'identity_ambiguous' })).toBe(2);
    const one = await gateway.fetch(FLOWS, bearer(mint(rsa, { claims: { sub: 'one', left: true, groups: ['a'] } })));
    expect(one.status).toBe(200);
    expect(gateway.simulator.arrivals().length).toBe(1);
  });

  test('is accepted within the tolerance for clocks, and not beyond it', async () => {
    const clock = new ManualClock();
    await using gateway = await withKeys({ clockTolerance: '10s' }, clock);
    const seconds = Math.floor(clock.now() / 1000);
    const at = (claims: Config) => gateway.fetch(FLOWS, bearer(mint(rsa, { now: clock.now(), claims })));
    expect((await at({ nbf: seconds + 9 })).status).toBe(200);
    expect(await codeOf(await at({ nbf: seconds + 11 }))).toBe('token_invalid');
    expect((await at({ exp: seconds - 9 })).status).toBe(200);
    expect(await codeOf(await at({ exp: seconds - 11 }))).toBe('token_expired');
  });

  test('that was accepted before is rejected when it has expired', async () => {
    const clock = new ManualClock();
    await using gateway = await withKeys({ clockTolerance: '10s' }, clock);
    const token = mint(rsa, { now: clock.now(), claims: { exp: Math.floor(clock.now() / 1000) + 60 } });
    expect((await gateway.fetch(FLOWS, bearer(token))).status).toBe(200);
    clock.advance(69_000);
    expect((await gateway.fetch(FLOWS, bearer(token))).status).toBe(200);
    clock.advance(1_000);
    expect(await codeOf(await gateway.fetch(FLOWS, bearer(token)))).toBe('token_expired');
    expect(await gateway.metric('patchgate_token_rejections_total', { issuer: 'cluster', reason: 'expired' })).toBe(1);
  });

  test('that is rejected counts as a failed authentication of its address', async () => {
    const server = await jwksServer();
    server.publish(rsa);
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, { ...issuer({ url: server.url }), tenants, limits: { failedAuth: 3 } }),
    });
    const forged = `${mint(rsa).slice(0, -8)}AAAAAAAA`;
    for (let i = 0; i < 3; i++) expect((await gateway.fetch(FLOWS, bearer(forged))).status).toBe(401);
    expect(await codeOf(await gateway.fetch(FLOWS, bearer(mint(rsa))))).toBe('address_blocked');
    await server.close();
  });
});

describe('the keys of an issuer', () => {
  test('that cannot be read at the start leave keys of tenants working, and tokens wait for them', async () => {
    const clock = new ManualClock();
    const server = await jwksServer();
    await server.close();
    await using gateway = await run({ config: byUrl(server), clock });
    const status = async () => statusOf(gateway.adminUrl);
    await eventually(async () => (await status()).problem !== null, 'the failure is in /status');
    expect(await status()).toEqual({
      keys: 0,
      readAt: null,
      problem: 'the server cannot be reached or breaks off (ECONNREFUSED)',
    });
    expect([await gateway.metric('patchgate_issuer_up'), await gateway.metric('patchgate_issuer_keys')]).toEqual([
      0, 0,
    ]);
    expect((await gateway.fetch(FLOWS)).status).toBe(200);
    expect((await fetch(`${gateway.adminUrl}/readyz`)).status).toBe(200);
    const refused = await gateway.fetch(FLOWS, bearer(mint(rsa, { now: clock.now() })));
    expect([refused.status, await codeOf(refused)]).toEqual([503, 'state_unavailable']);
    expect(refused.headers.get('retry-after')).toBe('5');
    server.publish(rsa);
    await server.open();
    clock.advance(5_000);
    await eventually(async () => (await gateway.metric('patchgate_issuer_up')) === 1, 'the keys are read');
    expect((await gateway.fetch(FLOWS, bearer(mint(rsa, { now: clock.now() })))).status).toBe(200);
    await server.close();
  });

  test('stay in use while their server is away', async () => {
    const clock = new ManualClock();
    await using gateway = await withKeys({}, clock);
    await gateway.server.close();
    for (let i = 0; i < 5; i++) {
      clock.advance(5 * 60_000);
      await eventually(async () => (await gateway.metric('patchgate_issuer_up')) === 0, 'the failure is reported');
      expect((await gateway.fetch(FLOWS, bearer(mint(rsa, { now: clock.now() })))).status).toBe(200);
    }
    await gateway.server.open();
  });

  test('are kept by a reload that does not concern them', async () => {
    await using gateway = await withKeys();
    const asked = gateway.server.requests.length;
    await gateway.reload((upstream) => ({
      ...byUrl(gateway.server)(upstream),
      limits: { failedAuth: 1_000, requestsPerSecond: 90 },
    }));
    expect((await gateway.fetch(FLOWS, bearer(mint(rsa)))).status).toBe(200);
    expect(gateway.server.requests.length).toBe(asked);
  });

  test('are read again for an unknown key, at most every 30 s, however many tokens name one', async () => {
    const clock = new ManualClock();
    await using gateway = await withKeys({}, clock, rsa);
    const next = rsaKey('rsa-2');
    const ask = async (key: TestKey) => (await gateway.fetch(FLOWS, bearer(mint(key, { now: clock.now() })))).status;
    gateway.server.publish(rsa, next);
    expect(await ask(next)).toBe(401);
    expect(gateway.server.requests.length).toBe(1);
    clock.advance(30_000);
    expect(await Promise.all([next, next, next, next].map(ask))).toEqual([200, 200, 200, 200]);
    expect(gateway.server.requests.length).toBe(2);
    const forged = rsaKey('forged');
    for (let i = 0; i < 10; i++) expect(await ask(forged)).toBe(401);
    expect(gateway.server.requests.length).toBe(2);
  });

  test('that are withdrawn are accepted no longer, remembered tokens included', async () => {
    const clock = new ManualClock();
    await using gateway = await withKeys({}, clock, rsa, ec);
    const token = mint(rsa, { now: clock.now() });
    expect((await gateway.fetch(FLOWS, bearer(token))).status).toBe(200);
    gateway.server.publish(ec);
    clock.advance(5 * 60_000);
    await eventually(() => gateway.server.requests.length === 2, 'the keys are read again');
    await eventually(async () => (await gateway.metric('patchgate_issuer_keys')) === 1, 'there is one');
    expect(await codeOf(await gateway.fetch(FLOWS, bearer(token)))).toBe('token_invalid');
  });

  test('are asked for with the authority and the token of their files, the token as it is at that time', async () => {
    await using ca = await authority();
    await using other = await authority();
    await using files = await folder({ 'ca.crt': other.cert, token: 'fake-token-one\n' });
    const clock = new ManualClock();
    const server = await jwksServer(await ca.issue('kubernetes'));
    server.publish(rsa);
    const jwks = { url: server.url, caFile: 'ca.crt', tokenFile: `${files.path}/token` };
    const authorities = { pem: other.cert };
    const config = (upstream: string) => configuration(upstream, { ...issuer(jwks), tenants });
    await using gateway = await run({
      config,
      clock,
      files: (path) => (path.endsWith('/ca.crt') ? authorities.pem : undefined),
    });
    const problem = async () => (await statusOf(gateway.adminUrl)).problem;
    await eventually(async () => (await problem()) !== null, 'it is not trusted');
    expect(await problem()).toMatch(/UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN/);
    expect(server.requests).toEqual([]);
    authorities.pem = ca.cert;
    await gateway.reload(config);
    await eventually(() => server.requests.length === 1, 'the keys are read');
    await eventually(async () => (await gateway.metric('patchgate_issuer_keys')) === 1, 'they are in use');
    await writeFile(`${files.path}/token`, 'fake-token-two');
    clock.advance(5 * 60_000);
    await eventually(() => server.requests.length === 2, 'the keys are read again');
    expect(server.requests).toEqual(['Bearer fake-token-one', 'Bearer fake-token-two']);
    expect((await gateway.fetch(FLOWS, bearer(mint(rsa, { now: clock.now() })))).status).toBe(200);
    await writeFile(`${files.path}/token`, 'two\nlines');
    clock.advance(5 * 60_000);
    await eventually(async () => (await problem()) !== null, 'a file that is no token is reported');
    expect(await problem()).toContain('is no token');
    expect(gateway.logText()).not.toMatch(/fake-token/);
    await server.close();
  });
});

test('a key of a tenant is found as before where issuers are configured', async () => {
  await using gateway = await withKeys();
  const me = await (await gateway.fetch('/_gateway/whoami', bearer(BILLING_KEY))).json();
  expect(me).toMatchObject({ tenant: 'billing', key: { id: 'now', expires: null } });
});
