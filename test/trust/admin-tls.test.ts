import { randomBytes } from 'node:crypto';
import { connect as connectPlain, type Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { type Config, configuration, eventually } from '../support/gateway.ts';
import { dial } from '../support/raw-socket.ts';
import { call, handshake, listening, runTlsGateway, TLS } from '../support/tls-gateway.ts';

const QUICK: Config = { limits: { headersTimeout: '500ms' } };
const gateway = () => runTlsGateway((upstream) => configuration(upstream, { ...listening(undefined, TLS), ...QUICK }));
type Gate = Awaited<ReturnType<typeof gateway>>;

const probe = async ({ admin, ca }: Gate, path = '/livez') => (await call(admin, path, { ca: ca.cert })).status;

/** The port is as it was: probes, metrics, and no error in the log. */
async function expectUnharmed(gate: Gate): Promise<void> {
  expect([await probe(gate), await probe(gate, '/readyz'), await probe(gate, '/metrics')]).toEqual([200, 200, 200]);
  expect(gate.logText()).not.toContain('"level":"error"');
}

const BYTES: Record<string, Buffer | string> = {
  'HTTP with a token': 'GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n',
  'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'the header of a proxy': 'PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\n\r\n',
  'the banner of SSH': 'SSH-2.0-OpenSSH_9.2\r\n',
  'empty lines': '\r\n'.repeat(1_000),
  zeros: Buffer.alloc(100_000),
  noise: randomBytes(100_000),
  'a record of the largest size': Buffer.concat([Buffer.from('160301ffff', 'hex'), randomBytes(65_535)]),
  'a record of no type': Buffer.from('ff0303000100', 'hex'),
  'an alert at once': Buffer.from('15030300020228', 'hex'),
  'application data at once': Buffer.from('170303000568656c6c6f', 'hex'),
  'a hello of SSL 2': Buffer.from('802e0100020015000000100100800200800300800400800500800600', 'hex'),
};

describe('the admin port with TLS', () => {
  test('ends connections of bytes that are no TLS, and is none the worse', async () => {
    await using gate = await gateway();
    for (const [name, bytes] of Object.entries(BYTES)) {
      using caller = await dial(gate.admin);
      caller.write(bytes);
      await eventually(() => caller.isClosed(), name);
      expect([name, caller.received().includes('ready')]).toEqual([name, false]);
    }
    await expectUnharmed(gate);
  });

  test('gives half a handshake and half a head limits.headersTimeout, and serves probes beside hundreds of them', async () => {
    await using gate = await gateway();
    const ends: Socket[] = [];
    let closed = 0;
    const held = (socket: Socket) => {
      // A socket that is not read does not end.
      ends.push(socket.on('error', () => {}).resume());
      socket.once('close', () => {
        closed += 1;
      });
      return socket;
    };
    const hello = Buffer.from('16030102000100', 'hex');
    for (let i = 0; i < 300; i++) held(connectPlain(gate.admin, '127.0.0.1')).write(hello);
    // A hundred handshakes at once may take a busy machine longer than limits.headersTimeout.
    for (let i = 0; i < 100; i++) held(await open(gate)).write('GET /status HTTP/1.1\r\nHost: x\r\nX-Long: ');
    await expectUnharmed(gate);
    await eventually(() => closed === ends.length, 'all of them have ended');
    await expectUnharmed(gate);
  });

  test('serves a caller whatever name it asks for, and none by another protocol', async () => {
    await using gate = await gateway();
    for (const servername of ['other.example.test', `${'a'.repeat(63)}.example`, 'localhost', 'xn--0']) {
      expect([servername, await handshake(gate.admin, { servername })]).toEqual([servername, 'open']);
    }
    expect(await handshake(gate.admin, { ALPNProtocols: ['h2'] })).toBe('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
    expect(await handshake(gate.admin, { ALPNProtocols: ['acme-tls/1'] })).toBe(
      'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    );
    await expectUnharmed(gate);
  });

  test('does not renegotiate, and ends a connection whose records are broken', async () => {
    await using gate = await gateway();
    const stubborn = await open(gate, 'TLSv1.2');
    const refused = new Promise<NodeJS.ErrnoException>((resolve) => stubborn.once('error', resolve));
    stubborn.on('error', () => {}).renegotiate({}, () => {});
    expect((await refused).code).toBe('ERR_SSL_NO_RENEGOTIATION');
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const raw = connectPlain(gate.admin, '127.0.0.1');
      const socket = connect({ socket: raw, ca: gate.ca.cert, maxVersion: version, host: '127.0.0.1' });
      await new Promise<void>((resolve) => socket.once('secureConnect', resolve));
      socket.on('error', () => {});
      const ended = new Promise<void>((resolve) => raw.once('close', () => resolve()));
      raw.write(Buffer.concat([Buffer.from('1703030020', 'hex'), randomBytes(32)]));
      await ended;
    }
    await expectUnharmed(gate);
  });

  test('serves probes beside 500 connections that were opened and say nothing; they end by themselves', async () => {
    await using gate = await gateway();
    const idle: TLSSocket[] = [];
    for (let i = 0; i < 25; i++) idle.push(...(await Promise.all(Array.from({ length: 20 }, () => open(gate)))));
    let closed = 0;
    for (const socket of idle) {
      socket.on('error', () => {}).resume();
      if (socket.destroyed || socket.readableEnded) closed += 1;
      else socket.once('close', () => (closed += 1));
    }
    await expectUnharmed(gate);
    await eventually(() => closed === idle.length, 'all of them have ended');
  });
});

function open({ admin, ca }: Gate, maxVersion: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3'): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: admin, ca: ca.cert, maxVersion });
    socket.once('secureConnect', () => resolve(socket)).once('error', reject);
  });
}
