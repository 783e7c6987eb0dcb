// npm run bench:client -- --client DIR [--python python3] [--latency 100ms] [--write]
// The official client of Patchworks, gopatchworks/patchworks-mcp, directly and through the gateway with default settings. DIR is a
// checkout of it; the Python has its requirements `requests` and `python-dotenv`.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { cleanUp, cleanUpAtTheEnd, end, freePort, MAIN, scratch, start, until } from '../chaos/rig.mjs';
import { inRoot, machine, table, writeSection } from './page.mjs';

const { values } = parseArgs({
  options: {
    client: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    latency: { type: 'string', default: '100ms' },
    write: { type: 'boolean', default: false },
  },
});
const { client, python, latency, write } = values;
if (client === undefined) throw new Error('--client DIR: a checkout of gopatchworks/patchworks-mcp');
cleanUpAtTheEnd();

const API_KEY = 'fake-patchworks-key-primary';
const KEYS = { tool: 'fake-tool-key', other: 'fake-other-key' };
/** The longest run takes a minute and a half. */
const TIMEOUT_MS = 300_000;
/** Another program on the same account: so many requests at a time, without pause and without regard to a 429. */
const OTHERS = 3;

/** A simulator, and a gateway with default settings before it. */
async function system() {
  const [upstream, port, admin] = [await freePort(), await freePort(), await freePort()];
  const origin = `http://127.0.0.1:${upstream}`;
  const listen = (/** @type {number} */ at) => ({ host: '127.0.0.1', port: at });
  const tenants = Object.entries(KEYS).map(([name, key]) => {
    const sha256 = createHash('sha256').update(key).digest('hex');
    return [name, { keys: [{ id: 'only', sha256 }] }];
  });
  const config = join(scratch, 'gateway.yaml');
  const document = {
    listen: { traffic: listen(port), admin: listen(admin) },
    log: { level: 'error' },
    accounts: { main: { credentials: [{ id: 'primary', apiKey: API_KEY }] } },
    upstreams: { core: { account: 'main', origin }, start: { account: 'main', origin } },
    tenants: Object.fromEntries(tenants),
  };
  writeFileSync(config, JSON.stringify(document));
  const programs = [
    start(process.execPath, [MAIN, 'simulate', '--port', String(upstream), '--latency', String(latency)]),
    start(process.execPath, [MAIN, 'serve', '--config', config]),
  ];
  for (const { stdout, stderr } of programs) {
    stdout?.resume();
    stderr?.resume();
  }
  const answers = async (/** @type {string} */ url) =>
    fetch(url).then(
      (response) => response.ok,
      () => false,
    );
  await until(
    'both are ready',
    async () => (await answers(`${origin}/health`)) && (await answers(`http://127.0.0.1:${admin}/readyz`)),
  );
  return {
    direct: origin,
    gateway: `http://127.0.0.1:${port}`,
    stop: () => Promise.all(programs.map((each) => end(each))),
  };
}

/** @param {string} base @param {string} token */
async function triage(base, token) {
  const args = [inRoot('test/bench/client/triage.py'), String(client)];
  const env = { ...process.env, PATCHWORKS_CORE_API: `${base}/api/v1`, PATCHWORKS_TOKEN: token };
  const { stdout } = await promisify(execFile)(String(python), args, { env, timeout: TIMEOUT_MS });
  return JSON.parse(stdout);
}

/** @param {string} base @param {string} token @param {{ ended: boolean }} run */
async function keepAsking(base, token, run) {
  const headers = { Authorization: token };
  while (!run.ended) {
    await fetch(`${base}/api/v1/flows`, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) }).then(
      (response) => response.arrayBuffer(),
      () => null,
    );
  }
}

/** @param {string} name @param {'direct' | 'gateway'} way @param {number} others */
async function run(name, way, others) {
  const { stop, [way]: base } = await system();
  const state = { ended: false };
  const asking = Array.from({ length: others }, () => keepAsking(base, way === 'direct' ? API_KEY : KEYS.other, state));
  const { requests, seconds, summaries, failed, longestSeconds } = await triage(
    base,
    way === 'direct' ? API_KEY : KEYS.tool,
  );
  state.ended = true;
  await Promise.all(asking);
  await stop();
  const row = [
    name,
    way,
    requests,
    `${seconds.toFixed(1)} s`,
    `${failed} of ${Math.max(1, summaries)}`,
    `${longestSeconds.toFixed(2)} s`,
  ];
  console.log(row.join(' | '));
  return row;
}

const rows = [
  ['the account is', 'way', 'requests', 'time', 'failed', 'longest request'],
  await run('idle', 'direct', 0),
  await run('idle', 'gateway', 0),
  await run('used by another program', 'direct', OTHERS),
  await run('used by another program', 'gateway', OTHERS),
];
cleanUp();
if (write) writeSection('docs/benchmarks.md', 'client', `${machine()}. Mean latency ${latency}.\n\n${table(rows)}`);
