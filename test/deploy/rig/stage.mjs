// Simulator, Redis, gateways as processes and Prometheus, on loopback; closed together, each by its own process id.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { end, freePort, run, until } from './children.mjs';
import { configuration, EXPORT_ACCOUNT_KEY, QUOTAS } from './configuration.mjs';
import { startPrometheus } from './prometheus.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const MAIN = inRoot('dist/main.js');

/** @typedef {Awaited<ReturnType<typeof startGateway>> & { agent: Agent }} Gateway */
/** @typedef {Awaited<ReturnType<typeof openStage>>} Stage */

/**
 * @param {{ env: NodeJS.ProcessEnv, quota: keyof typeof QUOTAS, secondAccount: boolean, scrapeMs: number, latency: import('../../../src/simulator/latency.ts').Latency }} options
 */
export async function openStage({ env, quota, secondAccount, scrapeMs, latency }) {
  // The built product: by a path that the type checker does not follow.
  const { createSimulator } = /** @type {typeof import('../../../src/simulator/simulator.ts')} */ (
    await import(inRoot('dist/simulator/simulator.js'))
  );
  const { FAKE_PASSWORD, FAKE_SPARE_KEY, FAKE_USER } =
    /** @type {typeof import('../../../src/simulator/options.ts')} */ (
      await import(inRoot('dist/simulator/options.js'))
    );
  const folder = await mkdtemp(join(tmpdir(), 'patchgate-stage-'));
  /** @type {(() => Promise<unknown>)[]} */
  const closing = [() => rm(folder, { recursive: true, force: true })];
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each();
  };
  try {
    /** @type {import('../../../src/simulator/control.ts').Simulator} */
    const simulator = await createSimulator({
      accounts: {
        main: {
          apiKeys: { spare: FAKE_SPARE_KEY },
          users: { [FAKE_USER]: FAKE_PASSWORD },
          limit: QUOTAS[quota].account.limit,
        },
        exports: { apiKeys: { primary: EXPORT_ACCOUNT_KEY }, limit: 120 },
      },
      switches: { responseLatency: latency, tokenLifeSeconds: 3_600 },
    });
    closing.push(() => simulator.close());
    const redis = await startRedis(folder, env);
    closing.push(redis.stop);
    const file = join(folder, 'gateway.yaml');
    const settings = configuration({
      upstream: simulator.url,
      redis: `redis://127.0.0.1:${redis.port}`,
      quota,
      secondAccount,
    });
    await writeFile(file, JSON.stringify(settings));
    const ca = await certificate(folder, env);
    /** @type {Gateway[]} */
    const gateways = [];
    // In sequence: the first waits for others that may be there.
    for (let i = 0; i < 2; i++) {
      const agent = new Agent({ keepAlive: true, ca });
      closing.push(async () => agent.destroy());
      const gateway = { ...(await startGateway(file, env)), agent };
      closing.push(() => end(gateway.child));
      gateways.push(gateway);
    }
    const prometheus = await startPrometheus({ targets: gateways.map(({ admin }) => admin), scrapeMs, env });
    closing.push(prometheus.close);
    const reload = async (/** @type {string} */ text) => {
      await writeFile(file, text);
      for (const { child } of gateways) child.kill('SIGHUP');
    };
    return { simulator, redis, gateways, prometheus, settings, reload, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @param {string} folder @param {NodeJS.ProcessEnv} env */
async function startRedis(folder, env) {
  const port = await freePort();
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder, '--save', ''];
  const start = () => run('redis-server', args, env).child;
  let child = start();
  return {
    port,
    stop: () => end(child),
    start: () => {
      child = start();
    },
  };
}

/** Makes the self-signed certificate of the traffic ports. @param {string} folder @param {NodeJS.ProcessEnv} env */
async function certificate(folder, env) {
  const [cert, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  await promisify(execFile)('openssl', ['req', '-x509', '-days', '60', ...newKey, ...names, '-out', cert], { env });
  return readFile(cert);
}

/** The built program, as the image runs it. @param {string} file @param {NodeJS.ProcessEnv} env */
async function startGateway(file, env) {
  const { child, said } = run(process.execPath, [MAIN, 'serve', '--config', file], { PATH: env['PATH'] });
  const listening = /^\{.*"msg":"listening".*\}$/m;
  const line = await until('the gateway listens', async () => listening.exec(said())?.[0]).catch(async (error) => {
    await end(child);
    throw new Error(`${error.message}\n${said()}`);
  });
  const { traffic, admin } = JSON.parse(line);
  return { child, url: `https://127.0.0.1:${traffic.port}`, admin: `127.0.0.1:${admin.port}` };
}
