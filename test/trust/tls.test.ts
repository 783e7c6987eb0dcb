import { execFile } from 'node:child_process';
import { connect as connectPlain, type Socket } from 'node:net';
import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { authority } from '../support/certificate-authority.ts';
import { BILLING_KEY, configuration, eventually } from '../support/gateway.ts';
import { folder } from '../support/process.ts';
import { dial } from '../support/raw-socket.ts';
import { call, handshake, listening, plain, runTlsGateway, TLS } from '../support/tls-gateway.ts';

const LIST = '/api/v1/flows?per_page=1';
const asking = (clientAuth: string) => ({ ...TLS, clientCaFile: 'ca.crt', clientAuth });
const outcomes = (text: string, port: string): Record<string, number> =>
  Object.fromEntries(
    [...text.matchAll(/^patchgate_tls_handshakes_total\{port="(\w+)",outcome="(\w+)"\} (\d+)$/gm)]
      .filter(([, at]) => at === port)
      .map(([, , outcome, count]) => [outcome, Number(count)]),
  );

describe('a port with TLS', () => {
  test('shows its certificate, speaks TLS 1.3 and 1.2 and nothing older, and HTTP/1.1 alone', async () => {
    await using gate = await runTlsGateway(plain);
    const { traffic: port, ca } = gate;
    const newest = await call(port, LIST, { ca: ca.cert });
    expect([newest.status, newest.version]).toEqual([200, 'TLSv1.3']);
    expect((await call(port, LIST, { ca: ca.cert, maxVersion: 'TLSv1.2' })).version).toBe('TLSv1.2');
    const old = { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    expect(await handshake(port, old)).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    expect(await handshake(port, { ALPNProtocols: ['h2'] })).toBe('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
    expect(await handshake(port, { ALPNProtocols: ['h2', 'http/1.1'] })).toBe('open');
    // No forward secrecy, no authenticated encryption.
    for (const ciphers of ['AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA'])
      expect(await handshake(port, { maxVersion: 'TLSv1.2', ciphers })).toBe('ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE');
    expect(outcomes(await gate.metrics(), 'traffic')).toEqual({ ok: 3, version: 1, protocol: 1, cipher: 2 });
  });

  test('with minVersion TLSv1.3 speaks nothing older, from a reload on', async () => {
    await using gate = await runTlsGateway(plain);
    const { traffic: port, ca } = gate;
    expect((await call(port, LIST, { ca: ca.cert, maxVersion: 'TLSv1.2' })).status).toBe(200);
    const strict = (upstream: string) => configuration(upstream, listening({ ...TLS, minVersion: 'TLSv1.3' }));
    expect(await gate.reload(strict)).toEqual([]);
    expect(await handshake(port, { maxVersion: 'TLSv1.2' })).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    expect((await call(port, LIST, { ca: ca.cert })).version).toBe('TLSv1.3');
  });

  test('answers plain HTTP in plain words, and reads nothing of it', async () => {
    await using gate = await runTlsGateway((upstream) => configuration(upstream, listening(TLS, TLS)));
    for (const [name, port] of [
      ['traffic', gate.traffic],
      ['admin', gate.admin],
    ] as const) {
      for (const method of ['GET', 'DELETE']) {
        using caller = await dial(port);
        caller.write(`${method} /api/v1/flows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${BILLING_KEY}\r\n\r\n`);
        await caller.closed();
        expect(caller.statuses()).toEqual([400]);
        expect(caller.received()).toContain('This port speaks TLS: begin the URL with https://.');
      }
      expect(outcomes(await gate.metrics(), name)['plain']).toBe(2);
    }
    expect(gate.simulator.arrivals()).toEqual([]);
    expect(gate.logText()).not.toContain(BILLING_KEY);
  });

  test('gives a handshake limits.headersTimeout, stalled or dripping, and is none the worse for hundreds of them', async () => {
    await using gate = await runTlsGateway((upstream) => plain(upstream, { limits: { headersTimeout: '400ms' } }));
    const hello = Buffer.from('16030102000100', 'hex');
    using dripping = await dial(gate.traffic);
    let at = 0;
    const drip = setInterval(() => dripping.write(hello.subarray(at % 7, (at++ % 7) + 1)), 50);
    const stalled = Array.from({ length: 300 }, () => connectPlain(gate.traffic, '127.0.0.1').on('error', () => {}));
    let closed = 0;
    for (const socket of stalled) {
      socket.once('close', () => {
        closed += 1;
      });
      socket.write(hello);
    }
    try {
      expect((await call(gate.traffic, LIST, { ca: gate.ca.cert })).status).toBe(200);
      await dripping.closed();
      await eventually(() => closed === stalled.length, 'all stalled handshakes have ended');
    } finally {
      clearInterval(drip);
    }
    const counted = outcomes(await gate.metrics(), 'traffic');
    expect(counted['timeout']).toBe(301);
  });

  test('issues no ticket that a client would keep', async () => {
    await using gate = await runTlsGateway(plain);
    const told = await openssl(['s_client', '-connect', `127.0.0.1:${gate.traffic}`, '-tls1_3'], {}, WHOAMI_AND_CLOSE);
    const lifetimes = [...told.matchAll(/lifetime hint: (\d+) \(seconds\)/g)].map(([, seconds]) => Number(seconds));
    // Node cannot keep OpenSSL from sending tickets in TLS 1.3; see `contextOf`.
    expect(Math.max(0, ...lifetimes)).toBeLessThanOrEqual(1);
    const older = await openssl(['s_client', '-connect', `127.0.0.1:${gate.traffic}`, '-tls1_2'], {}, WHOAMI_AND_CLOSE);
    expect(older).not.toContain('TLS session ticket');
  });

  test('takes up no session again, and does not renegotiate', async () => {
    await using gate = await runTlsGateway(plain);
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const sessions: Buffer[] = [];
      for (let round = 0; round < 2; round++) {
        const session = sessions.at(-1);
        const socket = connect({
          ...{ host: '127.0.0.1', port: gate.traffic, ca: gate.ca.cert, minVersion: version, maxVersion: version },
          ...(session !== undefined && { session }),
        });
        socket.on('session', (each) => sessions.push(each)).on('error', () => {});
        const answered = once(socket, 'data');
        await once(socket, 'secureConnect');
        expect(socket.isSessionReused()).toBe(false);
        // A server of TLS 1.3 sends its session tickets before its first response.
        socket.write('GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n');
        await answered;
        socket.destroy();
      }
      expect(sessions.length).toBeGreaterThan(0);
    }
    const stubborn = connect({ host: '127.0.0.1', port: gate.traffic, ca: gate.ca.cert, maxVersion: 'TLSv1.2' });
    await once(stubborn, 'secureConnect');
    const refused = new Promise<NodeJS.ErrnoException>((resolve) => stubborn.once('error', resolve));
    stubborn.on('error', () => {}).renegotiate({}, () => {});
    expect((await refused).code).toBe('ERR_SSL_NO_RENEGOTIATION');
  });

  test('counts callers that do not trust it, and those that disconnect', async () => {
    await using gate = await runTlsGateway(plain);
    await using stranger = await authority('Other');
    // Other clients than Node look at the certificate within the handshake, and say what they think of it.
    await openssl(['s_client', '-connect', `127.0.0.1:${gate.traffic}`, '-CAfile', 'ca.crt', '-verify_return_error'], {
      'ca.crt': stranger.cert,
    });
    connectPlain(gate.traffic, '127.0.0.1', function (this: Socket) {
      this.destroy();
    });
    await eventually(async () => {
      const { distrusted, client_closed } = outcomes(await gate.metrics(), 'traffic');
      return distrusted === 1 && client_closed === 1;
    }, 'both are counted');
  });
});

describe('client certificates', () => {
  const modes = (mode: string) => (upstream: string) => configuration(upstream, listening(asking(mode)));

  test('required: without one, with one of another authority, or an expired one, a caller receives the reason, and nothing of it is read', async () => {
    await using gate = await runTlsGateway(modes('required'));
    await using stranger = await authority(`Stranger`);
    const { traffic: port, ca } = gate;
    const shown = await ca.issue('caller', { usage: 'clientAuth' });
    const answered = await call(port, LIST, { ca: ca.cert, ...shown });
    expect(answered.status).toBe(200);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const asked = { ca: ca.cert, maxVersion };
      const without = await call(port, LIST, asked);
      expect([without.status, without.headers['connection']]).toEqual([400, 'close']);
      expect(without.text).toContain('This port requires a client certificate');
      for (const bad of [await stranger.issue('caller'), await ca.issue('late', { days: -1 })]) {
        const told = await call(port, LIST, { ...asked, ...bad });
        expect([told.status, told.text]).toEqual([400, expect.stringContaining('The client certificate is expired')]);
      }
    }
    expect(outcomes(await gate.metrics(), 'traffic')).toEqual({
      certified: 1,
      certificate_missing: 2,
      certificate_rejected: 4,
    });
    expect(gate.simulator.arrivals()).toHaveLength(1);
  });

  test.each(['-tls1_2', '-tls1_3'])('that is refused ends with an alert, not a reset: %s', async (version) => {
    await using gate = await runTlsGateway(modes('required'));
    await using stranger = await authority('Stranger');
    const { cert, key } = await stranger.issue('caller');
    const connecting = ['s_client', '-state', '-quiet', '-connect', `127.0.0.1:${gate.traffic}`, version];
    const shown = { 'caller.crt': cert, 'caller.key': key };
    for (const args of [connecting, [...connecting, '-cert', 'caller.crt', '-key', 'caller.key']]) {
      // More than the kernel of the gateway would throw away unread.
      const told = await openssl(args, shown, `POST / HTTP/1.1\r\nHost: x\r\n\r\n${'x'.repeat(100_000)}`);
      expect(told).toContain('alert read:warning:close notify');
      expect(told).not.toMatch(/reset|unexpected eof/i);
    }
  });

  test('a certificate is no key: a caller that shows one needs the key of a tenant, or the admin token, all the same', async () => {
    await using gate = await runTlsGateway((upstream) => {
      const config = configuration(upstream, listening(asking('required'), asking('required')));
      Object.assign((config['listen'] as { admin: object }).admin, { token: 'fake-admin-token' });
      return config;
    });
    const { ca } = gate;
    const caller = { ca: ca.cert, ...(await ca.issue('billing')) };
    expect((await call(gate.traffic, LIST, { ...caller, headers: { 'X-API-Key': 'pgk_nobody' } })).status).toBe(401);
    expect((await call(gate.admin, '/status', caller)).status).toBe(401);
    const token = { Authorization: 'Bearer fake-admin-token' };
    expect((await call(gate.admin, '/status', { ...caller, headers: token })).status).toBe(200);
    expect((await call(gate.admin, '/status', { ca: ca.cert, headers: token })).status).toBe(400);
    expect((await call(gate.admin, '/livez', { ca: ca.cert })).status).toBe(400);
    expect((await call(gate.admin, '/livez', caller)).status).toBe(200);
  });

  test('optional: without one a caller is served, with a bad one it is not', async () => {
    await using gate = await runTlsGateway(modes('optional'));
    await using stranger = await authority('Stranger');
    const { traffic: port, ca } = gate;
    expect((await call(port, LIST, { ca: ca.cert })).status).toBe(200);
    expect((await call(port, LIST, { ca: ca.cert, ...(await ca.issue('caller')) })).status).toBe(200);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      for (const bad of [await stranger.issue('caller'), await ca.issue('late', { days: -1 })])
        expect((await call(port, LIST, { ca: ca.cert, maxVersion, ...bad })).status).toBe(400);
    }
    expect(outcomes(await gate.metrics(), 'traffic')).toEqual({ ok: 1, certified: 1, certificate_rejected: 4 });
  });

  test('none: no caller is asked, whatever authority is named', async () => {
    await using gate = await runTlsGateway(modes('none'));
    await using stranger = await authority('Stranger');
    expect(await handshake(gate.traffic, await stranger.issue('caller'))).toBe('open');
    expect(outcomes(await gate.metrics(), 'traffic')).toEqual({ ok: 1 });
  });

  test('of an authority that was exchanged open nothing from then on', async () => {
    await using gate = await runTlsGateway(modes('required'));
    await using next = await authority('Next');
    const { traffic: port, ca } = gate;
    const shown = [await ca.issue('caller'), await next.issue('caller')];
    const statuses = () =>
      Promise.all(shown.map(async (caller) => (await call(port, LIST, { ca: ca.cert, ...caller })).status));
    expect(await statuses()).toEqual([200, 400]);
    await gate.write({ 'ca.crt': next.cert });
    expect(await gate.reload()).toEqual([]);
    expect(await statuses()).toEqual([400, 200]);
  });
});

test('no key of a certificate is in a log, a response or a metric, at the most talkative level', async () => {
  await using gate = await runTlsGateway((upstream) =>
    configuration(upstream, { ...listening(TLS, asking('optional')), log: { level: 'trace' } }),
  );
  const { ca } = gate;
  const keys = [await ca.issue('one'), await ca.issue('two')];
  for (const { cert, key } of keys) {
    await gate.write({ 'tls.key': key });
    await gate.reload();
    await gate.write({ 'tls.crt': key });
    await gate.reload();
    await gate.write({ 'tls.crt': cert });
    await gate.reload();
  }
  const pages = ['/config', '/status', '/metrics', '/', '/nowhere'];
  const answers = await Promise.all(pages.map((path) => call(gate.admin, path, { ca: ca.cert })));
  const said = [gate.logText(), ...answers.map(({ text }) => text)].join('\n');
  expect(said).toContain('is not the key of the certificate');
  for (const { key } of keys) {
    for (const line of key.split('\n').filter((each) => /^[A-Za-z0-9+/=]{20,}$/.test(each)))
      expect(said.includes(line)).toBe(false);
  }
  expect(said).not.toContain('PRIVATE KEY');
});

const once = (emitter: { once(event: string, run: () => void): unknown }, event: string): Promise<void> =>
  new Promise((resolve) => emitter.once(event, resolve));

const WHOAMI_AND_CLOSE = 'GET /_gateway/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

/** Runs openssl with these files in its folder, whatever comes of it. Resolves to all it has printed when the server has closed. */
async function openssl(args: string[], files: Record<string, string>, input?: string): Promise<string> {
  await using home = await folder(files);
  return await new Promise((resolve) => {
    const { stdin } = execFile('openssl', args, { cwd: home.path, timeout: 10_000 }, (_error, stdout, stderr) =>
      resolve(stdout + stderr),
    );
    // The end of its input would make it disconnect first.
    if (input === undefined) stdin?.end();
    else stdin?.on('error', () => {}).write(input);
  });
}
