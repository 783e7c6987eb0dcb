// npm run bench:workers [-- --workers 1,2,4] [--seconds 5] [--rounds 3]: the built gateway with one worker and with more.
//
// Load, upstream, Redis and gateway share the cores of this machine. With as many workers as cores the load takes from them what it
// needs, so that throughput says less than they could do alone; it grows with workers only as far as cores are left. What holds
// everywhere is the CPU that a request costs, over all processes of the gateway, and how connections are shared.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { withTools } from '../../scripts/tools.mjs';
import { sharing } from './workers/sharing.mjs';

const { values } = parseArgs({
  options: {
    workers: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
  },
});
const most = Math.max(2, availableParallelism());
const counts = values.workers?.split(',').map(Number) ?? [1, 2, 4, 8].filter((count) => count <= most);
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const CONNECTIONS = 64;
/** Requests to each worker before the measured ones. */
const WARM_UP = 20_000;
const KEY = 'pgk_bench_fake-key';
/** Linux: sysconf(_SC_CLK_TCK), as /proc counts CPU. */
const TICK_MS = 10;

const AUTOCANNON = fileURLToPath(new URL('../../node_modules/autocannon/autocannon.js', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const WORK = /** @type {const} */ ([
  ['cached hit', '/api/v1/flows/1'],
  ['pass-through, quota in Redis', '/api/v1/flow-runs'],
]);

/** @param {import('node:http').Server} server @returns {Promise<number>} */
const portOf = (server) =>
  new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });

const body = JSON.stringify({ data: 'x'.repeat(2_000) });
const upstream = createServer((_, response) => {
  const headers = { 'X-RateLimit-Limit': '9000000', 'X-RateLimit-Remaining': '9000000' };
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length, ...headers });
  response.end(body);
});
const folder = await mkdtemp(join(tmpdir(), 'patchgate-bench-'));
const probe = createServer();
const redisPort = await portOf(probe);
probe.close();
const redis = spawn(
  'redis-server',
  ['--port', String(redisPort), '--bind', '127.0.0.1', '--dir', folder, '--save', ''],
  {
    env: withTools(['redis-server', 'openssl']),
    stdio: 'ignore',
  },
);
const origin = `http://127.0.0.1:${await portOf(upstream)}`;
const plenty = { limit: 9_000_000, ceiling: 8_000_000, burst: 1_000_000 };

/** @param {number} workers */
async function start(workers) {
  const any = { host: '127.0.0.1', port: 0 };
  const config = {
    listen: { traffic: any, admin: any },
    redis: { url: `redis://127.0.0.1:${redisPort}`, prefix: `bench-${workers}`, timeout: '2s' },
    workers,
    accounts: { main: { quota: plenty, credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key' }] } },
    upstreams: { core: { origin }, start: { origin } },
    cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '1h' }] },
    limits: { flood: 9_000_000 },
    log: { level: 'error' },
    tenants: {
      bench: {
        keys: [{ id: 'now', sha256: createHash('sha256').update(KEY).digest('hex') }],
        quota: { rate: 8_000_000, burst: 1_000_000, maxWait: '10s' },
      },
    },
  };
  // What it listens on is told at `info`.
  await writeFile(join(folder, 'gateway.yaml'), JSON.stringify({ ...config, log: { level: 'info' } }));
  const child = spawn(process.execPath, [MAIN, 'serve', '--config', join(folder, 'gateway.yaml')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  /** @type {{ traffic: { port: number }, admin: { port: number } } | null} */
  let where = null;
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.includes('"msg":"listening"')) continue;
    where = JSON.parse(line);
    break;
  }
  child.stdout.resume();
  if (where === null) throw new Error('the gateway did not start');
  await writeFile(join(folder, 'gateway.yaml'), JSON.stringify(config));
  const admin = `http://127.0.0.1:${where.admin.port}`;
  await fetch(`${admin}/reload`, { method: 'POST' });
  return { child, admin, url: `http://127.0.0.1:${where.traffic.port}` };
}

/** A Redis that was empty is waited for. @param {string} url */
async function answers(url) {
  while ((await fetch(url, { headers: { 'X-API-Key': KEY } })).status !== 200) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * Load from a process of its own.
 *
 * @param {string} url @param {string[]} howLong
 * @returns {Promise<{ requests: { total: number }, non2xx: number, errors: number }>}
 */
async function load(url, howLong) {
  const options = ['--json', '-c', String(CONNECTIONS), ...howLong, '-H', `X-API-Key=${KEY}`, url];
  const { stdout } = await promisify(execFile)(process.execPath, [AUTOCANNON, ...options]);
  return JSON.parse(stdout);
}

/** CPU of a process and its children, in ms. @param {number} pid @returns {number[]} */
function cpuMs(pid) {
  const own = (/** @type {number} */ id) => {
    const fields = readFileSync(`/proc/${id}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  };
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  return [own(pid), ...children.map(own)];
}

/** @param {number[]} all */
const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

/** @type {Map<string, { rate: number, cpu: number, primary: number, busiest: number }[]>} */
const seen = new Map();
try {
  for (let round = 0; round < rounds; round++) {
    for (const workers of counts) {
      const gateway = await start(workers);
      for (const [work, path] of WORK) {
        await answers(`${gateway.url}${path}`);
        // By number: each worker compiles what is hot for itself, and cold code costs three times as much.
        await load(`${gateway.url}${path}`, ['-a', String(WARM_UP * workers)]);
        const before = cpuMs(gateway.child.pid ?? 0);
        const result = await load(`${gateway.url}${path}`, ['-d', String(seconds)]);
        const used = cpuMs(gateway.child.pid ?? 0).map((each, i) => each - (before[i] ?? 0));
        if (result.non2xx > 0 || result.errors > 0)
          throw new Error(`${work}: ${result.non2xx} refused, ${result.errors} lost`);
        const answered = result.requests.total;
        const sum = used.reduce((total, each) => total + each, 0);
        const serving = workers === 1 ? used : used.slice(1);
        const key = `${work}|${workers}`;
        seen.set(key, [
          ...(seen.get(key) ?? []),
          {
            rate: answered / seconds,
            cpu: (sum * 1000) / answered,
            primary: workers === 1 ? 0 : (used[0] ?? 0) / sum,
            busiest: Math.max(...serving) / serving.reduce((total, each) => total + each, 0),
          },
        ]);
      }
      gateway.child.kill('SIGINT');
      await new Promise((resolve) => gateway.child.once('exit', resolve));
    }
  }
  console.log(
    `${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`,
  );
  console.log(
    `${CONNECTIONS} kept connections, medians of ${rounds} rounds of ${seconds} s; load, upstream and Redis on the same cores`,
  );
  const of = (/** @type {string} */ key, /** @type {'rate' | 'cpu' | 'primary' | 'busiest'} */ field) =>
    median((seen.get(key) ?? []).map((each) => each[field]));
  console.table(
    WORK.flatMap(([work]) =>
      counts.map((workers) => {
        const key = `${work}|${workers}`;
        const first = `${work}|${counts[0]}`;
        return {
          work,
          workers,
          'requests/s': Math.round(of(key, 'rate')),
          'of one': `${(of(key, 'rate') / of(first, 'rate')).toFixed(2)} ×`,
          'CPU a request, µs': Math.round(of(key, 'cpu')),
          'of one ': `${(of(key, 'cpu') / of(first, 'cpu')).toFixed(2)} ×`,
          'of it the primary': `${(of(key, 'primary') * 100).toFixed(1)} %`,
          'busiest worker': `${Math.round(of(key, 'busiest') * 100)} %`,
        };
      }),
    ),
  );
  console.table(await sharing());
} finally {
  redis.kill();
  upstream.close();
  await rm(folder, { recursive: true, force: true });
}
