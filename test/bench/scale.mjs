// npm run bench:scale [-- --write]: what a decision costs with more replicas, tenants, accounts and higher ceilings, and what the
// cache costs with a million responses. Some five minutes; loopback only; kills only what it started.
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { cleanUp, cleanUpAtTheEnd } from '../chaos/rig.mjs';
import { inRoot, machine, table, writeSection } from './page.mjs';
import { extrapolation } from './scale/extrapolate.mjs';
import { decide, fillUp, memoryOf, openQuotaStores, rest } from './scale/quota-stores.mjs';
import { sharedCache } from './scale/shared-cache.mjs';

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: { write: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
});
/** Decisions a second, all replicas together; an account of Patchworks has 4. */
const RATE = 1_000;
const SECONDS = values.quick ? 1 : 4;
const NEVER_FULL = 10_000_000;
const tell = (/** @type {string} */ line) => void process.stdout.write(`${line}\n`);
const f = (/** @type {number} */ value, digits = 1) => value.toFixed(digits);
/** Measurements that the extrapolation to 1,000 accounts starts from. */
const measured = { beatUs: 0, beatOwnUs: 0, decisionUs: 0, accountKib: 0, answerBytes: 0 };
const kib = (/** @type {number} */ bytes) => f(bytes / 1024);
const count = (/** @type {number} */ value) => Math.round(value).toLocaleString('en-GB');

const DECISIONS = [
  'decisions a second',
  'p50 / p99, ms',
  'commands a second',
  'commands a decision',
  'Redis CPU, µs a decision',
  'Redis, share of a core',
];
/** @param {Awaited<ReturnType<typeof decide>>} result @param {number} rate */
const decided = (result, rate) => [
  count(rate),
  `${f(result.p50, 2)} / ${f(result.p99, 2)}`,
  count(result.commandsPerSecond),
  f(result.commandsPerDecision, 2),
  f(result.cpuUsPerDecision),
  `${f(result.cpuShare * 100)} %`,
];

async function byReplicas() {
  /** @type {(string | number)[][]} */
  const rows = [['replicas', ...DECISIONS, 'the same at rest: commands a second', 'Redis, share of a core']];
  for (const replicas of [1, 2, 4, 8, 16, 32]) {
    const world = await openQuotaStores({ replicas, tenants: 1_000, ceiling: NEVER_FULL });
    const result = await decide(world, { rate: RATE, seconds: SECONDS });
    const idle = await rest(world, SECONDS / 2);
    if (replicas === 8) measured.decisionUs = result.cpuUsPerDecision;
    rows.push([replicas, ...decided(result, RATE), count(idle.commandsPerSecond), `${f(idle.cpuShare * 100, 2)} %`]);
    tell(rows.at(-1)?.join(' | ') ?? '');
    await world.close();
  }
  return table(rows);
}

async function byTenants() {
  /** @type {(string | number)[][]} */
  const rows = [['tenants', ...DECISIONS, 'memory of the account, KiB']];
  for (const tenants of [10, 100, 1_000, 10_000]) {
    const world = await openQuotaStores({ replicas: 4, tenants, ceiling: NEVER_FULL });
    // Each of them is known to Redis before it is measured.
    await decide(world, { rate: 2 * RATE, seconds: Math.max(1, (tenants / RATE) * 0.6) });
    const result = await decide(world, { rate: RATE, seconds: SECONDS });
    rows.push([tenants, ...decided(result, RATE), kib(await memoryOf(world))]);
    tell(rows.at(-1)?.join(' | ') ?? '');
    await world.close();
  }
  return table(rows);
}

async function byCeiling() {
  /** @type {(string | number)[][]} */
  const rows = [['ceiling', 'slots held', ...DECISIONS, 'rejected', 'memory of the account, KiB']];
  for (const ceiling of [240, 2_400, 24_000, 100_000]) {
    const world = await openQuotaStores({ replicas: 4, tenants: 1_000, ceiling });
    const { taken } = await fillUp(world);
    const result = await decide(world, { rate: RATE, seconds: SECONDS });
    if (ceiling === 240) measured.accountKib = (await memoryOf(world)) / 1024;
    const rejected = `${count((result.rejected / (result.rejected + result.admitted)) * 100)} %`;
    rows.push([ceiling, count(taken), ...decided(result, RATE), rejected, kib(await memoryOf(world))]);
    tell(rows.at(-1)?.join(' | ') ?? '');
    await world.close();
  }
  return table(rows);
}

async function byAccounts() {
  /** @type {(string | number)[][]} */
  const rows = [
    [
      'accounts',
      'replicas',
      'commands a second',
      'Redis CPU, µs a command',
      'Redis, share of a core',
      'all replicas, share of a core',
      'memory an account, KiB',
    ],
  ];
  for (const [accounts, replicas] of [
    [1, 2],
    [10, 2],
    [100, 2],
    [1_000, 2],
    [100, 8],
  ]) {
    const world = await openQuotaStores({
      replicas: replicas ?? 1,
      tenants: 10,
      ceiling: 235,
      accounts: accounts ?? 1,
    });
    const idle = await rest(world, SECONDS);
    if (accounts === 1_000) {
      measured.beatUs = idle.cpuUsPerCommand;
      measured.beatOwnUs = (idle.ownCpuShare * 1e6) / idle.commandsPerSecond;
    }
    rows.push([
      ...[accounts ?? 0, replicas ?? 0, count(idle.commandsPerSecond), f(idle.cpuUsPerCommand)],
      ...[`${f(idle.cpuShare * 100)} %`, `${f(idle.ownCpuShare * 100)} %`, kib(await memoryOf(world))],
    ]);
    tell(rows.at(-1)?.join(' | ') ?? '');
    await world.close();
  }
  return table(rows);
}

function memoryTier() {
  /** @type {(string | number)[][]} */
  const rows = [
    [
      'responses of 1 KB',
      'RSS, MB',
      'one response: heap / external / RSS, bytes',
      'counted by `cache.memory`, bytes',
      'found, p50 / p99, µs',
      'stored with an eviction, p50 / p99, µs',
      'minor collection, p99, ms',
      'full collection, ms',
    ],
  ];
  for (const entries of values.quick ? [1_000, 10_000] : [10_000, 100_000, 1_000_000]) {
    const file = inRoot('test/bench/scale/memory-cache.mjs');
    const args = ['--expose-gc', '--max-old-space-size=8192', file, String(entries)];
    const out = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 400_000 }));
    rows.push([
      ...[
        count(entries),
        f(out.rssMb, 0),
        `${f(out.heap, 0)} / ${f(out.external, 0)} / ${f(out.rss, 0)}`,
        f(out.counted, 0),
      ],
      ...[`${f(out.get.p50, 2)} / ${f(out.get.p99, 2)}`, `${f(out.evict.p50, 2)} / ${f(out.evict.p99, 2)}`],
      ...[f(out.minorP99), f(out.full, 0)],
    ]);
    tell(rows.at(-1)?.join(' | ') ?? '');
  }
  return table(rows);
}

async function redisTier() {
  const found = await sharedCache(values.quick ? [1_000, 10_000] : [1_000, 100_000, 1_000_000]);
  measured.answerBytes = found.at(-1)?.perEntry ?? 0;
  return table([
    ['responses', 'bytes of one as stored', 'memory of Redis, MB', 'one response, bytes', 'found, p50 / p99, ms'],
    ...found.map(({ size, bytes, memory, perEntry, p50, p99 }) => [
      ...[count(size), bytes, f(memory / 1024 / 1024), f(perEntry, 0), `${f(p50, 2)} / ${f(p99, 2)}`],
    ]),
  ]);
}

/** @type {[name: string, measure: () => string | Promise<string>][]} the last is made from all before */
const SECTIONS = [
  ['scale-replicas', byReplicas],
  ['scale-tenants', byTenants],
  ['scale-ceilings', byCeiling],
  ['scale-accounts', byAccounts],
  ['scale-memory', memoryTier],
  ['scale-redis', redisTier],
  ['scale-sum', () => extrapolation(measured)],
];
for (const [name, measure] of SECTIONS) {
  const text = await measure();
  tell(`\n${name}\n${text}\n`);
  // Each as soon as it is there: what fails later does not take the minutes before with it.
  if (values.write) writeSection('docs/scale.md', name, text);
}
if (values.write) {
  writeSection('docs/scale.md', 'scale-about', `Measured by \`npm run bench:scale -- --write\`. ${machine()}.`);
}
cleanUp();
process.exit(0);
