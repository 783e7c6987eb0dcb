// Lists the project's files and functions that one request passes through: `npm run path`. V8 counts the calls in a gateway that
// runs as a process of its own, with everything on that is on by default, embedded state, and the simulator as its upstream. A
// function without a name is given by its line in dist.
import { fork, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const MAIN = join(root, 'dist/main.js');
const DIST = pathToFileURL(join(root, 'dist/')).href;
const KEY = 'pgk_fake-request-path-key';
const ACCOUNT_KEY = 'fake-request-path-account';
const PLENTY = 1_000_000;
const WARM_UP = 20;
/** A call belongs to the request if each of these rounds has it, and not each round without a request. */
const ROUNDS = 6;
/** The access log and what the guards share are written up to 100 ms after the response. */
const SETTLE_MS = 250;

/** @type {Record<string, { most: number | null, method: string, path: string, body?: string }>} */
const REQUESTS = {
  'cached GET': { most: 30, method: 'GET', path: '/api/v1/flows?page=1' },
  'pass-through GET': { most: 45, method: 'GET', path: '/api/v1/flow-runs?page=1' },
  POST: { most: null, method: 'POST', path: '/api/v1/data-pool', body: '{"name":"numbers"}' },
};

/** @param {string} upstream */
const configuration = (upstream) => ({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  accounts: {
    main: {
      quota: { limit: PLENTY, ceiling: PLENTY - 1, burst: PLENTY },
      credentials: [{ id: 'primary', apiKey: ACCOUNT_KEY }],
    },
  },
  upstreams: { core: { origin: upstream } },
  routes: [{ match: '* /api/v1/**', upstream: 'core' }],
  cache: {
    rules: [
      { match: 'GET /api/v1/flow-runs/**', store: false },
      { match: 'GET /api/v1/flows/**', ttl: '1h' },
    ],
  },
  // A look at the files while calls are counted would be taken for part of a request.
  reload: { watch: false },
  tenants: { team: { keys: [{ id: 'only', sha256: createHash('sha256').update(KEY).digest('hex') }] } },
});

/** @typedef {{ functionName: string, ranges: { startOffset: number, endOffset: number, count: number }[] }} CountedFunction */
/** @typedef {{ url: string, functions: CountedFunction[] }[]} Coverage */
/** Calls by file, then by function. @typedef {Map<string, Map<string, number>>} Calls */

/** @type {Map<string, string>} */
const sources = new Map();

/** @param {string} url @param {CountedFunction} counted */
function nameOf(url, { functionName, ranges }) {
  if (functionName !== '') return functionName;
  let source = sources.get(url);
  if (source === undefined) {
    source = readFileSync(fileURLToPath(url), 'utf8');
    sources.set(url, source);
  }
  return `(line ${source.slice(0, ranges[0]?.startOffset).split('\n').length})`;
}

/** @param {Coverage} coverage @returns {Calls} */
function callsIn(coverage) {
  /** @type {Calls} */
  const calls = new Map();
  for (const { url, functions } of coverage) {
    if (!url.startsWith(DIST)) continue;
    const called = functions.filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0);
    if (called.length === 0) continue;
    /** @type {Map<string, number>} */
    const byName = new Map();
    for (const each of called) {
      const name = nameOf(url, each);
      byName.set(name, (byName.get(name) ?? 0) + (each.ranges[0]?.count ?? 0));
    }
    calls.set(url.slice(DIST.length).replace(/\.js$/, '.ts'), byName);
  }
  return calls;
}

/** Calls of a request: the fewest with it less the fewest without. @param {Calls[]} rounds @param {Calls[]} idle @returns {Calls} */
function callsOfOne(rounds, idle) {
  /** @type {Calls} */
  const calls = new Map();
  for (const [file, functions] of rounds[0] ?? []) {
    for (const name of functions.keys()) {
      const fewest = (/** @type {Calls[]} */ of) => Math.min(...of.map((round) => round.get(file)?.get(name) ?? 0));
      const count = fewest(rounds) - fewest(idle);
      if (count > 0) calls.set(file, (calls.get(file) ?? new Map()).set(name, count));
    }
  }
  return calls;
}

/** @param {import('node:stream').Readable} stream @param {RegExp} pattern @returns {Promise<string>} */
async function lineWith(stream, pattern) {
  let text = '';
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += chunk;
    const found = pattern.exec(text)?.[1];
    if (found !== undefined) return found;
  }
  throw new Error(`ended before it was ready:\n${text}`);
}

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** @param {string} port @param {{ method: string, path: string, body?: string }} wanted */
async function send(port, { method, path, body }) {
  const headers = { 'X-API-Key': KEY, ...(body !== undefined && { 'Content-Type': 'application/json' }) };
  const outgoing = request({ host: '127.0.0.1', port, agent, method, path, headers });
  outgoing.end(body);
  const [incoming] = await once(outgoing, 'response');
  incoming.resume();
  await once(incoming, 'end');
  if (Math.floor(incoming.statusCode / 100) !== 2)
    throw new Error(`${method} ${path} was answered with ${incoming.statusCode}`);
}

/** @param {import('node:child_process').ChildProcess} gateway @returns {Promise<Calls>} */
async function take(gateway) {
  gateway.send('take');
  const [coverage] = await once(gateway, 'message');
  return callsIn(coverage);
}

/** @param {import('node:child_process').ChildProcess} gateway @param {() => Promise<void>} act */
async function rounds(gateway, act) {
  const all = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(SETTLE_MS);
    await take(gateway);
    await act();
    await sleep(SETTLE_MS);
    all.push(await take(gateway));
  }
  return all;
}

/** @param {string} title @param {number | null} most @param {Calls} calls */
function print(title, most, calls) {
  const files = [...calls].sort(([a], [b]) => a.localeCompare(b));
  const functions = files.reduce((sum, [, each]) => sum + each.size, 0);
  console.log(
    `\n${title}: ${files.length} files, ${functions} functions${most === null ? '' : ` (target: ${most} files)`}`,
  );
  for (const [file, each] of files) {
    const names = [...each].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`));
    console.log(`  ${file.padEnd(36)} ${names.join(', ')}`);
  }
}

const folder = mkdtempSync(join(tmpdir(), 'patchgate-path-'));
const simulator = spawn(
  process.execPath,
  [MAIN, 'simulate', '--port', '0', '--limit', String(PLENTY), '--api-key', `primary=${ACCOUNT_KEY}`],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
/** @type {import('node:child_process').ChildProcess | undefined} */
let gateway;
try {
  const upstream = await lineWith(simulator.stdout, /(http:\/\/127\.0\.0\.1:\d+),/);
  const config = join(folder, 'gateway.yaml');
  writeFileSync(config, JSON.stringify(configuration(upstream)));
  const preload = new URL('request-path-preload.mjs', import.meta.url).href;
  gateway = fork(MAIN, ['serve', '--config', config], {
    execArgv: ['--import', preload],
    env: { ...process.env, NODE_ENV: 'production' },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const stdout = /** @type {import('node:stream').Readable} */ (gateway.stdout);
  const port = await lineWith(stdout, /"traffic":\{[^}]*"port":(\d+)/);
  stdout.resume();
  const idle = await rounds(gateway, async () => {});
  for (const [title, wanted] of Object.entries(REQUESTS)) {
    for (let done = 0; done < WARM_UP; done += 1) await send(port, wanted);
    print(title, wanted.most, callsOfOne(await rounds(gateway, () => send(port, wanted)), idle));
  }
} finally {
  agent.destroy();
  gateway?.kill('SIGKILL');
  simulator.kill();
  rmSync(folder, { recursive: true, force: true });
}
