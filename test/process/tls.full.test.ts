import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { connect as connectPlain } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { type Authority, authority, type Pair } from '../support/certificate-authority.ts';
import { type Config, configuration, eventually } from '../support/gateway.ts';
import { wasLost } from '../support/gateway-process.ts';
import { writeConfigMap } from '../support/kubelet.ts';
import { folder, patchgate, type Spawned } from '../support/process.ts';
import { until } from '../support/redis.ts';
import { call, listening } from '../support/tls-gateway.ts';

const HEALTH = fileURLToPath(new URL('../../deploy/image/health.mjs', import.meta.url));
const LIST = '/api/v1/flow-runs';
const MOUNTED = { certFile: 'tls/tls.crt', keyFile: 'tls/tls.key' };
/** With this long a poll, every change that a test sees is a notification of the file system. */
const WATCHED = { reload: { poll: '1h' } };

interface Serving {
  readonly ca: Authority;
  readonly process: Spawned;
  readonly traffic: number;
  readonly admin: number;
  readonly path: string;
  /** As the kubelet does it: both files at once, by a rename of `..data`. */
  mount(pair: Pair): Promise<void>;
  /** SHA-256 of the certificate that a new connection is shown. */
  shown(): Promise<string>;
  reloads(): Promise<{ ok: number; refused: number }>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The built program, TLS on both ports, the pair in a Secret that is mounted beside gateway.yaml. */
async function serving(more: Config = WATCHED): Promise<Serving> {
  const [ca, simulator, home] = await Promise.all([authority(), createSimulator(), folder({})]);
  const mount = ({ cert, key }: Pair) => writeConfigMap(join(home.path, 'tls'), { 'tls.crt': cert, 'tls.key': key });
  await mount(await ca.issue('gate'));
  const config = configuration(simulator.url, { ...listening(MOUNTED, MOUNTED), ...more });
  await writeFile(join(home.path, 'gateway.yaml'), JSON.stringify(config));
  const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: home.path });
  const { traffic, admin } = await process.listening();
  // The first response fills the bucket of embedded state.
  await call(traffic, LIST, { ca: ca.cert });
  return {
    ...{ ca, process, traffic, admin, mount, path: home.path },
    shown: async () => (await call(admin, '/livez', { ca: ca.cert })).fingerprint,
    async reloads() {
      const { text } = await call(admin, '/metrics', { ca: ca.cert });
      const count = (outcome: string) =>
        Number(new RegExp(`^patchgate_config_reloads_total{outcome="${outcome}"} (\\d+)$`, 'm').exec(text)?.[1]);
      return { ok: count('ok'), refused: count('refused') };
    },
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await Promise.all([simulator.close(), home[Symbol.asyncDispose](), ca[Symbol.asyncDispose]()]);
    },
  };
}

describe('a certificate is exchanged', () => {
  test('ten times under load, as Kubernetes does it: no connection and no request is lost, and each is shown soon', async () => {
    await using gate = await serving();
    const { ca, traffic } = gate;
    let going = true;
    const outcomes: (number | string)[] = [];
    const kept = new Agent({ keepAlive: true });
    const callers = [kept, kept, undefined, undefined].map(async (agent) => {
      while (going) {
        const answer = call(traffic, LIST, { ca: ca.cert, ...(agent && { agent }) });
        outcomes.push(await answer.then(({ status }) => status).catch((error: Error) => error.message));
      }
    });
    const seen = new Set([await gate.shown()]);
    for (let round = 0; round < 10; round++) {
      const before = outcomes.length;
      await gate.mount(await ca.issue('gate'));
      await until('the new certificate is shown', async () => !seen.has(await gate.shown()));
      seen.add(await gate.shown());
      await eventually(() => outcomes.length > before + 4, 'requests go on');
    }
    going = false;
    await Promise.all(callers);
    kept.destroy();
    expect(outcomes.filter((each) => each !== 200 && each !== 429)).toEqual([]);
    expect(seen.size).toBe(11);
    expect(await gate.reloads()).toEqual({ ok: 11, refused: 0 });
  });

  test('half of it is refused and counted, the old one goes on, and the other half brings it in by itself', async () => {
    await using gate = await serving();
    const before = await gate.shown();
    const next = await gate.ca.issue('gate');
    // Not as Kubernetes: by hand, one file after the other, with a pause between.
    const data = (name: string) => join(gate.path, 'tls/..data', name);
    await writeFile(data('tls.crt'), next.cert);
    await until('it is refused', async () => (await gate.reloads()).refused === 1);
    expect(await gate.shown()).toBe(before);
    await writeFile(data('tls.key'), next.key);
    await until('the new certificate is shown', async () => (await gate.shown()) !== before);
    expect(await gate.reloads()).toEqual({ ok: 2, refused: 1 });
  });

  test('by SIGHUP and by POST /reload at once, where nothing watches', async () => {
    await using gate = await serving({ reload: { watch: false } });
    const { ca, admin } = gate;
    const seen = [await gate.shown()];
    await gate.mount(await ca.issue('gate'));
    const answer = await call(admin, '/reload', { ca: ca.cert, method: 'POST' });
    expect(JSON.parse(answer.text)).toMatchObject({
      changed: ['listen.traffic.tls changed', 'listen.admin.tls changed'],
    });
    seen.push(await gate.shown());
    await gate.mount(await ca.issue('gate'));
    gate.process.child.kill('SIGHUP');
    await until('the third is shown', async () => !seen.includes(await gate.shown()));
    expect(new Set(seen).size).toBe(2);
  });
});

test('a drain under load answers every request over TLS, on kept connections and on new ones', async () => {
  const drain = { delay: '3s', timeout: '10s' };
  await using gate = await serving({ ...WATCHED, drain, limits: { requestsPerSecond: 1_000_000 } });
  const { ca, traffic: port } = gate;
  const told = { answered: 0, closes: 0, lost: [] as string[] };
  const clients = Array.from({ length: 6 }, async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let refused = false; !refused; ) {
      const ask = () => call(port, '/_gateway/whoami', { ca: ca.cert, agent });
      await ask().then(
        ({ headers }) => {
          told.answered += 1;
          if (headers['connection'] === 'close') told.closes += 1;
        },
        async (error: NodeJS.ErrnoException) => {
          refused = true;
          if (await wasLost(error, ask)) told.lost.push(error.code ?? error.message);
        },
      );
    }
    agent.destroy();
  });
  await eventually(() => told.answered > 100, 'load');
  expect(told.closes).toBe(0);
  gate.process.child.kill('SIGTERM');
  await Promise.all(clients);
  expect(told.lost).toEqual([]);
  expect(told.closes).toBeGreaterThan(6);
  expect(await gate.process.exited).toEqual({ code: 0, signal: null });
  expect(gate.process.stdout()).toContain('"msg":"drained"');
});

test('a drain ends idle TLS connections, answers the last request, gives a handshake a second, and exits 0', async () => {
  await using gate = await serving({ ...WATCHED, drain: { delay: '0ms', timeout: '20s' } });
  const { ca, traffic: port } = gate;
  const ends: string[] = [];
  const idle = connect({ host: '127.0.0.1', port, ca: ca.cert });
  idle.on('error', () => {}).once('close', () => ends.push('idle'));
  await new Promise((resolve) => idle.once('secureConnect', resolve));
  let text = '';
  idle.on('data', (piece) => {
    text += piece;
  });
  idle.write('GET /_gateway/whoami HTTP/1.1\r\nHost: x\r\n\r\n');
  await eventually(() => text.includes('key_missing'), 'a response');
  const silent = connect({ host: '127.0.0.1', port, ca: ca.cert });
  silent.on('error', () => {}).once('close', () => ends.push('silent'));
  await new Promise((resolve) => silent.once('secureConnect', resolve));
  const shaking = connectPlain(port, '127.0.0.1');
  shaking.on('error', () => {}).once('close', () => ends.push('shaking'));
  await new Promise((resolve) => shaking.once('connect', resolve));
  shaking.write(Buffer.from('16030102000100', 'hex'));
  gate.process.child.kill('SIGTERM');
  expect(await gate.process.exited).toEqual({ code: 0, signal: null });
  await eventually(() => ends.length === 3, 'all have ended');
  expect(gate.process.stdout()).toContain('"msg":"drained"');
  expect(gate.process.stderr()).toBe('');
});

test("the image's health check asks a port that speaks TLS as a kubelet does, whatever its certificate is for", async () => {
  await using gate = await serving();
  const ask = (url: string) =>
    new Promise((resolve) => {
      execFile(process.execPath, [HEALTH], { env: { HEALTH_URL: url } }, (error, stdout) =>
        resolve([error === null ? 0 : error.code, stdout.trim()]),
      );
    });
  const ready = [0, '200 {"ready":true,"reasons":[]}'];
  expect(await ask(`https://localhost:${gate.admin}/readyz`)).toEqual(ready);
  expect(await ask(`https://127.0.0.1:${gate.admin}/readyz`)).toEqual(ready);
  expect(await ask(`http://127.0.0.1:${gate.admin}/readyz`)).toMatchObject([
    1,
    expect.stringMatching(/^400 .*speaks TLS/),
  ]);
});

test('check tells what a certificate is for and until when, and that it has expired', async () => {
  await using ca = await authority();
  const fine = await ca.issue('gate', { names: 'DNS:gate.example.test' });
  const late = await ca.issue('gate', { days: -1 });
  const asked = { ...MOUNTED, clientCaFile: 'ca.crt' };
  const admin = { certFile: 'late.crt', keyFile: 'late.key' };
  await using files = await folder({
    'gateway.yaml': JSON.stringify(configuration('http://127.0.0.1:1', listening(asked, admin))),
    ...{ 'tls/tls.crt': fine.cert, 'tls/tls.key': fine.key, 'ca.crt': ca.cert },
    ...{ 'late.crt': late.cert, 'late.key': late.key },
  });
  await using checked = patchgate(['check', '--config', 'gateway.yaml'], { cwd: files.path });
  expect((await checked.exited).code).toBe(0);
  const lines = checked.stdout().split('\n');
  expect(lines).toEqual(
    expect.arrayContaining([
      expect.stringMatching(
        /^traffic port: TLSv1\.2 and newer, client certificates required; certificate for DNS:gate\.example\.test until 20\d\d-[\d:T-]+Z$/,
      ),
      expect.stringMatching(
        /^admin port: TLSv1\.2 and newer; certificate for IP Address:127\.0\.0\.1, DNS:localhost until 20/,
      ),
      expect.stringMatching(
        /^warning: listen\.admin\.tls\.certFile: the certificate has expired on 20.*: callers refuse it$/,
      ),
    ]),
  );
});
