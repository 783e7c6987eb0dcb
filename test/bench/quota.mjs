// npm run bench:quota [-- --seeds 10 --minutes 20 --real --write]
// The gateway's quota against limiters without leases, in a discrete-event simulation; with --real also as processes.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { withTools } from '../../scripts/tools.mjs';
import { chart } from './quota/chart.mjs';
import { embeddedGateway, fixedWindow, gatewaysOnRedis, slidingLog, tokenBucket } from './quota/contestants.mjs';
import { LATENCIES, simulate } from './quota/simulate.mjs';
import { replaced } from './sections.mjs';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '5' },
    minutes: { type: 'string', default: '10' },
    real: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const env = withTools(['redis-server', 'openssl']);

/** @typedef {(course: import('./quota/contestants.mjs').Course) => Promise<import('./quota/contestants.mjs').Contestant>} Make */
/** @type {[name: string, make: Make, redis: boolean][]} */
const CONTESTANTS = [
  ['patchgate, ceiling 235, embedded', embeddedGateway(235), false],
  ['patchgate, ceiling 239, embedded', embeddedGateway(239), false],
  ['patchgate, ceiling 235, 1 replica on Redis', gatewaysOnRedis(235, 1), true],
  ['patchgate, ceiling 235, 3 replicas on Redis', gatewaysOnRedis(235, 3), true],
  ['patchgate, ceiling 239, 3 replicas on Redis', gatewaysOnRedis(239, 3), true],
  ['fixed window of 240', fixedWindow(240), false],
  ['token bucket, 240 a minute, burst 240', tokenBucket(240, 240), false],
  ['token bucket, 240 a minute, burst 60', tokenBucket(240, 60), false],
  ['sliding log of 240, no leases', slidingLog(240), false],
];

const port = await new Promise((/** @type {(port: number) => void} */ resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const address = server.address();
    server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
  });
});
const folder = mkdtempSync(join(tmpdir(), 'patchgate-bench-'));
const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''], {
  env,
  stdio: 'ignore',
});
const redis = new Redis({ port, retryStrategy: () => 50, maxRetriesPerRequest: null });
redis.on('error', () => {});
process.once('SIGINT', () => {
  server.kill('SIGKILL');
  process.exit(130);
});

const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;
const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i + 1);
const minutes = Number(values.minutes);
/** @type {string[]} */
const lines = [];
/** @type {Record<string, import('./quota/simulate.mjs').Result>} */
const shown = {};

try {
  await redis.ping();
  for (const latency of /** @type {(keyof typeof LATENCIES)[]} */ (Object.keys(LATENCIES))) {
    for (const greedy of latency === 'jittery' ? [false, true] : [false]) {
      const { mean, tail, longest } = LATENCIES[latency];
      const tails = tail > 0 ? `, and up to ${longest / 1000} s for ${tail * 100} %` : '';
      lines.push(
        '',
        `#### ${latency}: ${mean} ms on average each way${tails}${greedy ? '; and one greedy tenant with ten times the callers' : ''}`,
        '',
      );
      lines.push(
        '| limiter | goodput a minute | of its limit | upstream 429s a minute | most in any 60 s | Jain | waits p50 / p95 / p99 |',
        '|---|---|---|---|---|---|---|',
      );
      for (const [name, make] of CONTESTANTS) {
        /** @type {import('./quota/simulate.mjs').Result[]} */
        const results = [];
        for (const seed of seeds)
          results.push(await simulate({ contestant: make, seed, minutes, latency, greedy, redis }));
        if (latency === 'jittery' && !greedy && results[0]) shown[name] = results[0];
        const of = (/** @type {(result: import('./quota/simulate.mjs').Result) => number} */ pick) => results.map(pick);
        const goodput = median(of((each) => each.goodput));
        const limit = Number(/ceiling (\d+)/.exec(name)?.[1] ?? 240);
        const seconds = [0, 1, 2].map((i) => (median(of((each) => each.waits[i] ?? 0)) / 1000).toFixed(1)).join(' / ');
        const jains = of((each) => each.jain);
        lines.push(
          `| ${name} | ${goodput.toFixed(1)} | ${(goodput / limit).toFixed(3)} | ${median(of((each) => each.throttledPerMinute)).toFixed(2)} | ${Math.max(...of((each) => each.greatest))} | ${median(jains).toFixed(4)} | ${seconds} s |`,
        );
        console.log(lines.at(-1));
      }
    }
  }
} finally {
  redis.disconnect();
  server.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}

/** @type {string[]} */
const real = [];
if (values.real) {
  real.push(
    '| run | most in any 60 s | upstream 429s | goodput a minute, first / last minute | Jain | callers saw |',
    '|---|---|---|---|---|---|',
  );
  for (const args of [
    ['--gateways', '1'],
    ['--gateways', '3'],
    ['--gateways', '3', '--ceiling', '239'],
  ]) {
    const out = execFileSync(process.execPath, [inRoot('test/chaos/quota.mjs'), '--minutes', '3', ...args], {
      encoding: 'utf8',
      timeout: 400_000,
    });
    const report = JSON.parse(out.split('\n').find((line) => line.startsWith('{')) ?? '{}');
    real.push(
      `| ${report.gateways} × patchgate, ceiling ${report.ceiling} | ${report.greatestIn60s} | ${report.upstream429} | ${report.goodput.before} / ${report.goodput.after} | ${report.jain} | ${JSON.stringify(report.statuses).replaceAll('"', '')} |`,
    );
    console.log(real.at(-1));
  }
}

const machine = `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`;
if (values.write) {
  const page = inRoot('docs/benchmarks.md');
  let text = readFileSync(page, 'utf8');
  text = replaced(
    text,
    'quota-simulation',
    [`${seeds.length} seeds, ${minutes} minutes each after two to warm up. ${machine}.`, ...lines].join('\n'),
  );
  if (values.real) text = replaced(text, 'quota-real', [`${machine}.`, '', ...real].join('\n'));
  writeFileSync(page, text);
  writeFileSync(inRoot('docs/quota.svg'), chart(shown));
}
