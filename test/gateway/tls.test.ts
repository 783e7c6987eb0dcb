import { get } from 'node:http';
import { Agent, request } from 'node:https';
import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, configuration } from '../support/gateway.ts';
import { call, listening, plain, runTlsGateway, TLS } from '../support/tls-gateway.ts';

const LIST = '/api/v1/flows?per_page=1';
const asking = (clientAuth: string) => ({ ...TLS, clientCaFile: 'ca.crt', clientAuth });

describe('a reload of a port that speaks TLS', () => {
  test('shows new connections the new certificate, and goes on with those that are open', async () => {
    await using gate = await runTlsGateway((upstream) => configuration(upstream, listening(TLS, TLS)));
    const { traffic: port, ca } = gate;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const kept = { ca: ca.cert, agent };
    const before = await call(port, LIST, kept);
    const next = await ca.issue('gate', { days: 1 });
    await gate.write({ 'tls.crt': next.cert, 'tls.key': next.key });
    expect(await gate.reload()).toEqual([]);
    expect((await call(port, LIST, kept)).fingerprint).toBe(before.fingerprint);
    agent.destroy();
    const after = [await call(port, LIST, { ca: ca.cert }), await call(gate.admin, '/metrics', { ca: ca.cert })];
    expect(after[0]?.fingerprint).not.toBe(before.fingerprint);
    expect(after[1]?.fingerprint).toBe(after[0]?.fingerprint);
    const [, expiry] = /expiry_timestamp_seconds\{port="traffic"\} (\d+)/.exec(after[1]?.text ?? '') ?? [];
    expect(Math.abs(Number(expiry) - Date.now() / 1000 - 86_400)).toBeLessThan(60);
    const told = gate.logs().filter(({ msg }) => msg === 'certificate in use');
    expect(told.map(({ port: of, fingerprint }) => [of, fingerprint])).toEqual([
      ['traffic', before.fingerprint],
      ['admin', before.fingerprint],
      ['traffic', after[0]?.fingerprint],
      ['admin', after[0]?.fingerprint],
    ]);
  });

  test('of half a pair is refused and counted, and the old certificate goes on; the other half brings it in', async () => {
    await using gate = await runTlsGateway(plain);
    const { traffic: port, ca } = gate;
    const next = await ca.issue('gate');
    const before = await call(port, LIST, { ca: ca.cert });
    await gate.write({ 'tls.crt': next.cert });
    expect(await gate.reload()).toEqual([
      'gateway.yaml:1: listen.traffic.tls.keyFile: is not the key of the certificate in certFile',
    ]);
    expect((await call(port, LIST, { ca: ca.cert })).fingerprint).toBe(before.fingerprint);
    expect(await gate.metrics()).toContain('patchgate_config_reloads_total{outcome="refused"} 1');
    await gate.write({ 'tls.key': next.key });
    expect(await gate.reload()).toEqual([]);
    expect((await call(port, LIST, { ca: ca.cert })).fingerprint).not.toBe(before.fingerprint);
  });

  test('that turns TLS on or off, or asks callers for something else, waits for a restart, and nothing is opened', async () => {
    await using gate = await runTlsGateway((upstream) => configuration(upstream, listening(asking('required'))));
    const { ca, traffic: port } = gate;
    const caller = { ca: ca.cert, ...(await ca.issue('caller')) };
    for (const tls of [undefined, TLS, asking('none'), asking('optional')]) {
      expect(await gate.reload((upstream) => configuration(upstream, listening(tls)))).toEqual([]);
      expect((await call(port, LIST, { ca: ca.cert })).status).toBe(400);
      expect((await call(port, LIST, caller)).status).toBe(200);
    }
    const warned = gate.logs().filter(({ msg }) => msg === 'changed, but takes effect only after a restart');
    expect(new Set(warned.map(({ option }) => option))).toEqual(
      new Set(['listen.traffic.tls', 'listen.traffic.tls.clientAuth']),
    );
  });

  test('with an expired certificate is taken over: who may call must not depend on it', async () => {
    await using gate = await runTlsGateway(plain);
    const late = await gate.ca.issue('late', { days: -1 });
    await gate.write({ 'tls.crt': late.cert, 'tls.key': late.key });
    expect(await gate.reload((upstream) => plain(upstream, { tenants: { other: { keys: [] } } }))).toEqual([]);
    const socket = connect({ host: '127.0.0.1', port: gate.traffic, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    expect(socket.authorizationError).toBe('CERT_HAS_EXPIRED');
    socket.destroy();
    const status = await new Promise((resolve) => {
      request(
        {
          host: '127.0.0.1',
          port: gate.traffic,
          path: LIST,
          headers: { 'X-API-Key': BILLING_KEY },
          rejectUnauthorized: false,
        },
        (incoming) => resolve(incoming.resume().statusCode),
      ).end();
    });
    expect(status).toBe(401);
  });
});

test('links lead back by https where the caller came by it, and no further than a trusted proxy says', async () => {
  const trusting = (trustedProxies: string[], tls?: object) => (upstream: string) =>
    configuration(upstream, listening(tls, undefined, { trustedProxies }));
  const first = async (port: number, headers: Record<string, string>, ca?: string): Promise<string> => {
    const path = '/api/v1/flows?per_page=1';
    const all = { Host: 'gate.example.test', 'X-API-Key': BILLING_KEY, ...headers };
    const text =
      ca === undefined ? await plainly(port, path, all) : (await call(port, path, { ca, headers: all })).text;
    return (JSON.parse(text) as { links: { first: string } }).links.first.split('/api')[0] ?? '';
  };
  const https = { 'X-Forwarded-Proto': 'https' };
  {
    await using gate = await runTlsGateway(trusting([], TLS));
    expect(await first(gate.traffic, {}, gate.ca.cert)).toBe('https://gate.example.test');
    expect(await first(gate.traffic, { 'X-Forwarded-Proto': 'http' }, gate.ca.cert)).toBe('https://gate.example.test');
  }
  {
    await using gate = await runTlsGateway(trusting(['10.0.0.0/8', '::1/128']));
    expect(await first(gate.traffic, https)).toBe('http://gate.example.test');
    expect(await gate.reload(trusting([]))).toEqual([]);
    expect(await first(gate.traffic, https)).toBe('http://gate.example.test');
  }
  await using gate = await runTlsGateway(trusting(['127.0.0.0/8']));
  const { traffic: port } = gate;
  expect(await first(port, https)).toBe('https://gate.example.test');
  expect(await first(port, { 'X-Forwarded-Proto': 'HTTPS , http' })).toBe('https://gate.example.test');
  for (const odd of ['javascript', 'https:', '', 'httpss', 'https;http', 'ftp,https'])
    expect(await first(port, { 'X-Forwarded-Proto': odd })).toBe('http://gate.example.test');
  expect(await first(port, { ...https, 'X-Forwarded-Host': 'evil.example.test' })).toBe('https://gate.example.test');
  const [arrival] = gate.simulator.arrivals().slice(-1);
  expect(arrival?.headers.join(' ').toLowerCase()).not.toContain('x-forwarded');
});

const once = (emitter: { once(event: string, run: () => void): unknown }, event: string): Promise<void> =>
  new Promise((resolve) => emitter.once(event, resolve));

function plainly(port: number, path: string, headers: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, headers, agent: false }, (incoming) => {
      let text = '';
      incoming.setEncoding('utf8').on('data', (piece) => {
        text += piece;
      });
      incoming.on('end', () => resolve(text));
    }).on('error', reject);
  });
}
