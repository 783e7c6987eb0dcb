// Redis, the simulator in a process of its own, and gateways as the image runs them.
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { end, freePort, MAIN, pause, scratch, start, startRedis } from '../chaos/rig.mjs';
import { configuration, quotaOf } from './configuration.mjs';

/** @typedef {Awaited<ReturnType<typeof openStage>>} Stage */
/** @typedef {Awaited<ReturnType<typeof startGateway>>} Gateway */

const STARTS_WITHIN_MS = 20_000;

/** @param {{ rate: number, gateways: number }} options */
export async function openStage({ rate, gateways: count }) {
  const upstream = await startUpstream(quotaOf(rate).limit);
  const port = await freePort();
  const redis = await openRedis(port);
  const file = join(scratch, 'gateway.json');
  const reload = (/** @type {number} */ revision) =>
    writeFileSync(
      file,
      JSON.stringify(configuration({ upstream: upstream.url, redis: `redis://127.0.0.1:${port}`, rate, revision })),
    );
  reload(0);
  /** @type {Gateway[]} */
  const gateways = [];
  let stopping = false;
  // Gateways start in sequence, because the first waits for replicas that may be there already.
  for (let i = 0; i < count; i++) gateways.push(await startGateway(file));
  const died = gateways.map(async ({ child, said }) => {
    await new Promise((resolve) => child.once('exit', resolve));
    // Its last log lines may still be in the pipe.
    await pause(100);
    if (!stopping) throw new Error(`a gateway has ended: ${[...said.keys()].join('; ')}`);
  });
  return {
    ...{ upstream, redis, gateways, reload },
    /** Rejects when a gateway ends that should not. */
    died: Promise.all(died),
    /** As Kubernetes does it. @returns {Promise<(number | null)[]>} exit codes */
    async stop() {
      stopping = true;
      await Promise.all(gateways.map(({ child }) => end(child, 'SIGTERM')));
      return gateways.map(({ child }) => child.exitCode);
    },
    async close() {
      redis.client.disconnect();
      upstream.close();
      await redis.kill();
    },
  };
}

/** @param {number} limit */
async function startUpstream(limit) {
  const child = fork(fileURLToPath(new URL('./upstream.mjs', import.meta.url)), [String(limit)]);
  /** @type {Map<number, (reply: any) => void>} */
  const asked = new Map();
  let last = 0;
  const url = await new Promise((/** @type {(url: string) => void} */ resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error('the simulator does not start')));
    child.on('message', (/** @type {{ url?: string, id?: number, reply?: unknown }} */ message) => {
      if (message.url !== undefined) resolve(message.url);
      if (message.id === undefined) return;
      asked.get(message.id)?.(message.reply);
      asked.delete(message.id);
    });
  });
  return {
    url,
    /** @param {string} action @param {unknown} [body] @returns {Promise<any>} */
    ask(action, body) {
      last += 1;
      const id = last;
      child.send({ id, action, body });
      return new Promise((resolve) => asked.set(id, resolve));
    },
    close: () => child.kill('SIGKILL'),
  };
}

/** @param {number} port */
async function openRedis(port) {
  let child = await startRedis(port);
  const client = new Redis({ port, retryStrategy: () => 200, commandTimeout: 500, enableOfflineQueue: false });
  client.on('error', () => {});
  /** When it had lost its memory, as it was: milliseconds of the epoch. @type {{ from: number, to: number }[]} */
  const forgotten = [];
  let killedAt = 0;
  return {
    ...{ client, forgotten },
    kill: () => {
      killedAt = Date.now();
      return end(child);
    },
    start: async () => {
      child = await startRedis(port);
      forgotten.push({ from: killedAt, to: Date.now() });
    },
    stop: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  };
}

/** @param {string} file */
async function startGateway(file) {
  // The inspector lets garbage be collected at a moment of our choice, in the product as it is.
  const child = start(process.execPath, ['--inspect=127.0.0.1:0', MAIN, 'serve', '--config', file]);
  /** Lines of warnings and errors, by level and message. @type {Map<string, number>} */
  const said = new Map();
  const listening = new Promise((/** @type {(line: any) => void} */ resolve, reject) => {
    setTimeout(() => reject(new Error('the gateway does not start')), STARTS_WITHIN_MS).unref();
    let rest = '';
    child.stdout?.on('data', (chunk) => {
      const lines = (rest + String(chunk)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        // Access lines are most of them, and not worth parsing.
        if (line.includes('"msg":"listening"')) resolve(JSON.parse(line));
        else if (/"level":"(warn|error|fatal)"/.test(line)) note(said, JSON.parse(line));
      }
    });
  });
  let inspector = '';
  child.stderr?.on('data', (chunk) => {
    const lines = String(chunk).split('\n');
    inspector = lines.map((line) => /^Debugger listening on (ws:.*)$/.exec(line)?.[1]).find(Boolean) ?? inspector;
    const others = lines.filter((line) => line !== '' && !/^(Debugger |For help, see: )/.test(line));
    if (others.length > 0) note(said, { level: 'stderr', msg: others.join('\n').slice(0, 2000) });
  });
  const { traffic, admin } = await listening;
  if (inspector === '') throw new Error('the inspector of a gateway does not listen');
  return {
    ...{ child, said, inspector, port: Number(traffic.port) },
    ...{ url: `http://127.0.0.1:${traffic.port}`, admin: `http://127.0.0.1:${admin.port}` },
  };
}

const MOST_SAID = 200;

/** @param {Map<string, number>} said @param {{ level: string, msg: string }} line */
function note(said, { level, msg }) {
  const what = `${level}: ${msg}`;
  if (said.has(what) || said.size < MOST_SAID) said.set(what, (said.get(what) ?? 0) + 1);
}
