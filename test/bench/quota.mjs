// npm run bench:quota [-- --seeds 10 --minutes 20 --real --write]
// The gateway's quota against limiters without leases, in a discrete-event simulation; with --real also as processes.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { cleanUp, cleanUpAtTheEnd, freePort, startRedis } from '../chaos/rig.mjs';
import { inRoot, machine, quantile, table, writeSection } from './page.mjs';
import { chart } from './quota/chart.mjs';
import {
  embeddedGateway,
  fixedWindow,
  gatewaysOnRedis,
  leasesWithoutPacing,
  slidingLog,
  tokenBucket,
} from './quota/contestants.mjs';
import { LATENCIES, simulate } from './quota/simulate.mjs';

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '5' },
    minutes: { type: 'string', default: '10' },
    real: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const PAGE = 'docs/benchmarks.md';
const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i + 1);
const minutes = Number(values.minutes);

/** @typedef {import('./quota/simulate.mjs').Result} Result */
/** @type {[name: string, limit: number, make: (course: import('./quota/contestants.mjs').Course) => Promise<import('./quota/contestants.mjs').Contestant>][]} */
const CONTESTANTS = [
  ['patchgate, ceiling 235, embedded', 235, embeddedGateway(235)],
  ['patchgate, ceiling 239, embedded', 239, embeddedGateway(239)],
  ['patchgate, ceiling 235, 1 replica on Redis', 235, gatewaysOnRedis(235, 1)],
  ['patchgate, ceiling 235, 3 replicas on Redis', 235, gatewaysOnRedis(235, 3)],
  ['patchgate, ceiling 239, 3 replicas on Redis', 239, gatewaysOnRedis(239, 3)],
  ['leases of 235 without pacing, burst 60', 235, leasesWithoutPacing(235, 60)],
  ['fixed window of 240', 240, fixedWindow(240)],
  ['token bucket, 240 a minute, burst 240', 240, tokenBucket(240, 240)],
  ['token bucket, 240 a minute, burst 60', 240, tokenBucket(240, 60)],
  ['sliding log of 240, no leases', 240, slidingLog(240)],
];
const HEAD = [
  ...['limiter', 'goodput a minute', 'of its limit', 'upstream 429s a minute', 'most in any 60 s'],
  ...['Jain', 'waits p50 / p95 / p99', 'longest pause', 'modest tenant: wait p95, refused'],
];
const RUNS = /** @type {const} */ ([
  ['calm', false],
  ['jittery', false],
  ['jittery', true],
  ['wild', false],
]);

/** @param {string} name @param {number} limit @param {readonly Result[]} results of one limiter, by seed */
function rowOf(name, limit, results) {
  const median = (/** @type {(result: Result) => number} */ of) => quantile(results.map(of), 0.5);
  const goodput = median((each) => each.goodput);
  const waits = [0, 1, 2].map((i) => (median((each) => each.waits[i] ?? 0) / 1_000).toFixed(1));
  return [
    name,
    goodput.toFixed(1),
    (goodput / limit).toFixed(3),
    median((each) => each.throttledPerMinute).toFixed(2),
    Math.max(...results.map((each) => each.greatest)),
    median((each) => each.jain).toFixed(4),
    `${waits.join(' / ')} s`,
    `${(Math.max(...results.map((each) => each.longestPause)) / 1_000).toFixed(2)} s`,
    `${(median((each) => each.modest.wait) / 1_000).toFixed(2)} s, ${(median((each) => each.modest.refused) * 100).toFixed(1)} %`,
  ];
}

/** @param {Redis} redis */
async function simulated(redis) {
  /** @type {string[]} */
  const sections = [];
  /** The first seed of each limiter. @type {Record<string, Result>} */
  const shown = {};
  for (const [latency, greedy] of RUNS) {
    const { mean, tail, longest } = LATENCIES[latency];
    const tails = tail > 0 ? `, and up to ${longest / 1000} s for ${tail * 100} %` : '';
    const crowd = greedy ? '; and one greedy tenant with ten times the callers' : '';
    const rows = [];
    for (const [name, limit, contestant] of CONTESTANTS) {
      /** @type {Result[]} */
      const results = [];
      for (const seed of seeds) results.push(await simulate({ contestant, seed, minutes, latency, greedy, redis }));
      if (latency === 'jittery' && !greedy && results[0]) shown[name] = results[0];
      rows.push(rowOf(name, limit, results));
      console.log(rows.at(-1)?.join(' | '));
    }
    sections.push(`#### ${latency}: ${mean} ms on average each way${tails}${crowd}`, table([HEAD, ...rows]));
  }
  return { sections, shown };
}

function asProcesses() {
  const runs = [
    ['--gateways', '1'],
    ['--gateways', '3'],
    ['--gateways', '3', '--ceiling', '239'],
  ];
  const rows = runs.map((args) => {
    const program = [inRoot('test/chaos/quota.mjs'), '--minutes', '3', ...args];
    const out = execFileSync(process.execPath, program, { encoding: 'utf8', timeout: 400_000 });
    const report = JSON.parse(out.split('\n').find((line) => line.startsWith('{')) ?? '{}');
    const { gateways, ceiling, greatestIn60s, upstream429, goodput, jain, statuses } = report;
    const saw = JSON.stringify(statuses).replaceAll('"', '');
    const cells = [greatestIn60s, upstream429, `${goodput.before} / ${goodput.after}`, jain, saw];
    return [`${gateways} × patchgate, ceiling ${ceiling}`, ...cells];
  });
  const head = ['run', 'most in any 60 s', 'upstream 429s', 'goodput a minute, first / last minute', 'Jain'];
  return table([[...head, 'callers saw'], ...rows]);
}

const port = await freePort();
await startRedis(port);
const redis = new Redis({ port });
const { sections, shown } = await simulated(redis);
redis.disconnect();
cleanUp();
const real = values.real ? asProcesses() : null;
if (real !== null) console.log(real);
if (values.write) {
  const about = `${seeds.length} seeds, ${minutes} minutes each after two to warm up. ${machine()}.`;
  writeSection(PAGE, 'quota-simulation', [about, ...sections].join('\n\n'));
  if (real !== null) writeSection(PAGE, 'quota-real', `${machine()}.\n\n${real}`);
  writeFileSync(inRoot('docs/quota.svg'), chart(shown));
}
