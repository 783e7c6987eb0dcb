import { Agent } from 'node:https';
import { describe, expect, test } from 'vitest';
import { authority } from '../support/certificate-authority.ts';
import { type Config, configuration, READER_KEY } from '../support/gateway.ts';
import { call, listening, runTlsGateway, TLS } from '../support/tls-gateway.ts';

const LIST = '/api/v1/flows?per_page=1';
const WORKER = 'spiffe://example.org/ns/billing/sa/worker';
const NO_KEY = { 'X-API-Key': '' };

const withIdentities = (upstream: string): Config => {
  const config = configuration(upstream, listening({ ...TLS, clientCaFile: 'ca.crt', clientAuth: 'optional' }));
  const tenants = {
    ...(config['tenants'] as Config),
    worker: { identities: [{ certificate: WORKER }], quota: { burst: 100 } },
    other: { identities: [{ id: 'mesh', certificate: 'spiffe://example.org/other' }] },
    off: { disabled: true, identities: [{ certificate: 'spiffe://example.org/off' }] },
  };
  return { ...config, tenants };
};

describe('a client certificate', () => {
  test('identifies a tenant by its URI where the request has no key, and a key has priority', async () => {
    await using gate = await runTlsGateway(withIdentities);
    const { ca, traffic: port } = gate;
    const caller = { ca: ca.cert, ...(await ca.issue('worker', { names: `URI:${WORKER}`, usage: 'clientAuth' })) };
    const me = async (headers: Record<string, string>) =>
      JSON.parse((await call(port, '/_gateway/whoami', { ...caller, headers })).text);
    expect((await call(port, LIST, { ...caller, headers: NO_KEY })).status).toBe(200);
    expect(await me(NO_KEY)).toMatchObject({ tenant: 'worker', identity: { id: WORKER, expires: null } });
    expect(await me({ 'X-API-Key': READER_KEY })).toMatchObject({ tenant: 'reader', key: { id: 'only' } });
    expect(gate.logs().some(({ tenant, key }) => tenant === 'worker' && key === WORKER)).toBe(true);
    expect((await call(port, LIST, { ...caller, headers: { 'X-API-Key': 'pgk_none' } })).status).toBe(401);
  });

  test('serves every request of its connection', async () => {
    await using gate = await runTlsGateway(withIdentities);
    const { ca, traffic: port } = gate;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const caller = { ca: ca.cert, ...(await ca.issue('worker', { names: `URI:${WORKER}` })), agent, headers: NO_KEY };
    for (let i = 0; i < 3; i++) expect((await call(port, LIST, caller)).status).toBe(200);
    agent.destroy();
  });

  test.each([
    ['no URI', 'DNS:worker.example.test', 401, 'key_missing'],
    ['another URI', 'URI:spiffe://example.org/ns/billing/sa/other', 401, 'identity_unknown'],
    ['the URI as a host', `DNS:${WORKER}`, 401, 'key_missing'],
    ['the URI within another one', `URI:${WORKER}/x`, 401, 'identity_unknown'],
    ['the URIs of two tenants', `URI:${WORKER},URI:spiffe://example.org/other`, 401, 'identity_unknown'],
    ['the URI of a disabled tenant', 'URI:spiffe://example.org/off', 401, 'tenant_disabled'],
  ])('with %s is none', async (_name, names, status, code) => {
    await using gate = await runTlsGateway(withIdentities);
    const { ca, traffic: port } = gate;
    const answer = await call(port, LIST, { ca: ca.cert, ...(await ca.issue('x', { names })), headers: NO_KEY });
    expect([answer.status, JSON.parse(answer.text).code]).toEqual([status, code]);
    expect(gate.simulator.arrivals()).toEqual([]);
  });

  test('of another authority, expired, or for servers is none, and without one a key is missing', async () => {
    await using gate = await runTlsGateway(withIdentities);
    await using stranger = await authority('Stranger');
    const { ca, traffic: port } = gate;
    const names = `URI:${WORKER}`;
    for (const bad of [
      await stranger.issue('x', { names }),
      await ca.issue('x', { names, days: -1 }),
      await ca.issue('x', { names, usage: 'serverAuth' }),
    ]) {
      expect((await call(port, LIST, { ca: ca.cert, ...bad, headers: NO_KEY })).status).toBe(400);
    }
    const without = await call(port, LIST, { ca: ca.cert, headers: NO_KEY });
    expect([without.status, JSON.parse(without.text).code]).toEqual([401, 'key_missing']);
    expect(gate.simulator.arrivals()).toEqual([]);
  });
});
