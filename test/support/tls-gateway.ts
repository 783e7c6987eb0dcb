import { readFile, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { loadSettings, renderProblems } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { createGateway, type Gateway } from '../../src/gateway/gateway.ts';
import type { Simulator } from '../../src/simulator/control.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { type Authority, authority } from './certificate-authority.ts';
import { BILLING_KEY, type Config, configuration, TEST } from './gateway.ts';
import { folder } from './process.ts';

export interface TlsResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** SHA-256 of the certificate that was shown. */
  readonly fingerprint: string;
  readonly version: string | null;
}

export interface CallOptions extends Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'maxVersion' | 'minVersion'> {
  readonly headers?: Record<string, string>;
  readonly method?: string;
  /** Default: a connection of its own. */
  readonly agent?: Agent;
}

/** Over TLS, to 127.0.0.1, with the key of `billing`; the certificate is checked. */
export function call(port: number, path: string, options: CallOptions): Promise<TlsResponse> {
  const { headers, agent = new Agent({ keepAlive: false }), ...more } = options;
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port, path, agent, headers: { 'X-API-Key': BILLING_KEY, ...headers }, ...more },
      (incoming) => {
        const socket = incoming.socket as TLSSocket;
        const { fingerprint256 } = socket.getPeerCertificate();
        const version = socket.getProtocol();
        let text = '';
        incoming.setEncoding('utf8').on('data', (piece) => {
          text += piece;
        });
        incoming.on('error', reject);
        incoming.on('end', () =>
          resolve({
            ...{ text, version, fingerprint: fingerprint256 },
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
          }),
        );
      },
    );
    asked.on('error', (error) => reject(Object.assign(error, { reused: asked.reusedSocket })));
    asked.end();
  });
}

/** Result of a handshake and the first read after it: `open`, or the code of the error. */
export function handshake(port: number, options: ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
    const end = (outcome: string): void => {
      socket.destroy();
      resolve(outcome);
    };
    // TLS 1.3 lets a client speak before the server has looked at its certificate.
    socket.once('secureConnect', () => socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'));
    socket.once('data', () => end('open'));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? 'error'));
    socket.once('close', () => end('closed'));
  });
}

export interface TlsGateway {
  readonly ca: Authority;
  readonly gateway: Gateway;
  readonly simulator: Simulator;
  readonly traffic: number;
  readonly admin: number;
  /** Writes files beside gateway.yaml. */
  write(files: Record<string, string>): Promise<void>;
  /** Loads again as SIGHUP does; the outcome's problems. */
  reload(config?: (upstream: string) => Config): Promise<readonly string[]>;
  logs(): Record<string, unknown>[];
  logText(): string;
  metrics(): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

export const TLS = { certFile: 'tls.crt', keyFile: 'tls.key' };

/** Both ports, on loopback. */
export const listening = (traffic: object | undefined, admin?: object, more: object = {}) => ({
  listen: {
    traffic: { host: '127.0.0.1', port: 0, tls: traffic },
    admin: { host: '127.0.0.1', port: 0, tls: admin },
    ...more,
  },
});

/** A gateway in this process whose files are in a folder: `tls.crt`, `tls.key` and `ca.crt` of an authority of its own. */
export async function runTlsGateway(config: (upstream: string) => Config): Promise<TlsGateway> {
  const [ca, simulator, home] = await Promise.all([authority(), createSimulator(), folder({})]);
  const write = async (files: Record<string, string>): Promise<void> => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(home.path, name), text);
  };
  const { cert, key } = await ca.issue('gate', { names: 'IP:127.0.0.1,DNS:gate.example.test' });
  await write({ 'tls.crt': cert, 'tls.key': key, 'ca.crt': ca.cert });
  let latest = config;
  const load = () =>
    loadSettings({
      path: join(home.path, 'gateway.yaml'),
      env: {},
      readFile: async (path) =>
        path.endsWith('gateway.yaml') ? JSON.stringify(latest(simulator.url)) : readFile(path, 'utf8'),
    });
  const settings = await loaded(load);
  const lines: string[] = [];
  const gateway = createGateway({ settings, logTo: { write: (line) => void lines.push(line) } });
  const started = await gateway.start();
  if (!started.ok) throw new Error(started.reason);
  const [traffic, admin] = [started.traffic.port, started.admin.port];
  const metrics = async (): Promise<string> => {
    if (settings.listen.admin.tls === null) return (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    return (await call(admin, '/metrics', { ca: ca.cert })).text;
  };
  return {
    ...{ ca, gateway, simulator, traffic, admin, write, metrics },
    async reload(next = latest) {
      latest = next;
      const again = await load();
      const outcome = again.ok
        ? gateway.reload(again.settings, [TEST])
        : gateway.refuseReload(renderProblems(again.problems).split('\n').slice(0, -1), [TEST]);
      return outcome.ok ? [] : outcome.problems.map((each) => each.replaceAll(`${home.path}/`, ''));
    },
    logs: () => lines.map((line) => JSON.parse(line)),
    logText: () => lines.join(''),
    async [Symbol.asyncDispose]() {
      await gateway.close();
      await Promise.all([simulator.close(), home[Symbol.asyncDispose](), ca[Symbol.asyncDispose]()]);
    },
  };
}

async function loaded(load: () => ReturnType<typeof loadSettings>): Promise<Settings> {
  const first = await load();
  if (!first.ok) throw new Error(renderProblems(first.problems));
  return first.settings;
}

export const plain = (upstream: string, more: Config = {}) => configuration(upstream, { ...listening(TLS), ...more });
