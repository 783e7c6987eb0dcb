// Real gateways on a real Redis in front of the simulator, saturated, while something goes wrong. Judged by what the
// simulator counted. Loopback only; ends by itself; kills only what it started.
//
//     npm run chaos:quota -- --fault redis-kill --minutes 3 --ceiling 235
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startFleet } from './fleet.mjs';
import { greatestInAnyMinute } from './judge.mjs';
import { cleanUp, cleanUpAtTheEnd, end, pause } from './rig.mjs';

/** @typedef {import('./types.ts').Gateway} Gateway */

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    fault: { type: 'string', default: 'none' },
    minutes: { type: 'string', default: '3' },
    ceiling: { type: 'string', default: '235' },
    limit: { type: 'string', default: '240' },
    // The real limit of the simulator. A value below the ceiling shows that this run can fail.
    'upstream-limit': { type: 'string' },
    gateways: { type: 'string', default: '3' },
    workers: { type: 'string', default: '60' },
  },
});
const minutes = Number(values.minutes);
const ceiling = Number(values.ceiling);
const keyOf = (/** @type {string} */ tenant) => `fake-chaos-key-${tenant}`;
const hash = (/** @type {string} */ key) => createHash('sha256').update(key).digest('hex');
const tenants = Array.from({ length: 10 }, (_, i) => `t${i}`);
if (values.fault === 'greedy') tenants.push('greedy');

/** @param {import('./types.ts').Addresses} ways */
function configuration({ port, upstreamPort, redis }) {
  const origin = `http://127.0.0.1:${upstreamPort}`;
  return {
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: 0 } },
    redis,
    accounts: {
      main: {
        quota: { limit: Number(values.limit), ceiling, burst: 60 },
        credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
      },
    },
    upstreams: { core: { origin }, start: { origin } },
    log: { level: 'info' },
    drain: { delay: '200ms', timeout: '5s' },
    tenants: Object.fromEntries(
      tenants.map((id) => [
        id,
        {
          keys: [{ id: 'only', sha256: hash(keyOf(id)) }],
          quota: { burst: 100, ...(values.fault === 'guarantee' && id === 't0' && { reserved: 100 }) },
        },
      ]),
    ),
  };
}

const jitter = { kind: /** @type {const} */ ('exponential'), minMs: 5, meanMs: 120, maxMs: 5_000 };
const fleet = await startFleet({
  state: values.fault === 'sentinel' ? 'sentinel' : 'alone',
  gateways: Number(values.gateways),
  configuration,
  simulator: {
    switches: {
      limit: Number(values['upstream-limit'] ?? values.limit),
      arrivalLatency: jitter,
      responseLatency: jitter,
    },
  },
});
const { simulator } = fleet;
const redis = await fleet.redis.holder();
const first = /** @type {Gateway} */ (fleet.gateways[0]);
/** Gateways that receive requests. */
const living = new Set(fleet.gateways);

/** @type {{ at: number, tenant: string, status: number, waitedMs: number }[]} */
const seen = [];
let running = true;
/** @param {number} index */
async function worker(index) {
  const tenant =
    values.fault === 'greedy' && index % 2 === 0
      ? 'greedy'
      : /** @type {string} */ (tenants[values.fault === 'greedy' ? (index >> 1) % 10 : index % 10]);
  while (running) {
    const { url } = /** @type {Gateway} */ ([...living][Math.floor(Math.random() * living.size)]);
    const from = performance.now();
    let status = 0;
    let retryMs = 200;
    try {
      const response = await fetch(`${url}/api/v1/flow-runs?per_page=1`, {
        headers: { 'X-API-Key': keyOf(tenant) },
        signal: AbortSignal.timeout(60_000),
      });
      await response.arrayBuffer();
      status = response.status;
      if (status === 429 || status === 503)
        retryMs = Math.min(1_000, Number(response.headers.get('retry-after') ?? 1) * 1000);
    } catch {
      // A gateway that was killed: its callers see the connection break.
    }
    seen.push({ at: performance.now(), tenant, status, waitedMs: performance.now() - from });
    if (status !== 200) await pause(retryMs * (0.5 + Math.random()));
  }
}

/** Ceilings that a fault has lowered for good, and since when. @type {{ ceiling: number, from: number }[]} */
const lowered = [];
const begin = performance.now();
const workers = Array.from({ length: Number(values.workers) }, (_, index) => worker(index));
const third = (minutes * 60_000) / 3;
await pause(third);
const faultAt = performance.now();
/** @type {Record<string, () => Promise<void>>} */
const faults = {
  none: async () => {},
  greedy: async () => {},
  guarantee: async () => {},
  flushall: async () => void (await redis.client().flushall()),
  'redis-kill': async () => {
    await redis.kill();
    await pause(5_000);
    await redis.start();
  },
  'redis-restart-stale': async () => {
    await redis.client().save();
    await pause(10_000);
    await redis.kill();
    await pause(1_000);
    await redis.start();
  },
  'redis-stop': async () => {
    redis.stop();
    await pause(20_000);
    redis.resume();
  },
  sentinel: async () => redis.kill(),
  'gateway-kill': async () => {
    living.delete(first);
    await first.kill();
  },
  'gateway-restart': async () => {
    living.delete(first);
    await first.kill();
    await pause(1_000);
    await first.start();
    living.add(first);
  },
  'gateway-stop': async () => {
    first.stop();
    await pause(20_000);
    first.resume();
  },
  'partition-refused': async () => {
    first.toRedis.refuse();
    await pause(45_000);
    await first.toRedis.heal();
  },
  'partition-swallowed': async () => {
    first.toRedis.set({ swallow: true });
    await pause(45_000);
    await first.toRedis.heal();
  },
  'join-leave': async () => {
    living.add(await fleet.add());
    living.delete(first);
    await end(first.child(), 'SIGTERM');
  },
  // Ten of them under load: the ceiling goes down, to and fro, and stays down.
  reload: async () => {
    for (let i = 1; i <= 10; i++) {
      const to = i % 2 === 1 ? ceiling - 35 : i === 10 ? ceiling - 36 : ceiling - 20;
      for (const { config, file, child } of fleet.gateways) {
        const { main } = /** @type {{ main: { quota: object } }} */ (config['accounts']);
        const accounts = { main: { ...main, quota: { ...main.quota, ceiling: to } } };
        writeFileSync(file, JSON.stringify({ ...config, accounts }));
        child().kill('SIGHUP');
      }
      await pause(1_000);
    }
    lowered.push({ ceiling: ceiling - 36, from: performance.now() });
  },
  foreign: async () => {
    const until = performance.now() + third * 0.8;
    while (performance.now() < until) {
      simulator.useExternally(5);
      await pause(3_000);
    }
  },
};
const fault = faults[/** @type {string} */ (values.fault)];
if (fault === undefined) throw new Error(`no such fault; there are ${Object.keys(faults).join(', ')}`);
await fault();
const calmAt = performance.now();
await pause(Math.max(0, begin + minutes * 60_000 - performance.now()));
running = false;
await Promise.race([Promise.all(workers), pause(65_000)]);
const ended = performance.now();

const stats = simulator.stats();
/** The greatest number counted in any 60 s that begin after a time. @param {number} from */
function greatestSince(from) {
  const times = simulator
    .arrivals()
    .flatMap(({ countedAt }) => (countedAt !== null && countedAt >= from ? countedAt : []))
    .sort((a, b) => a - b);
  return greatestInAnyMinute(times);
}
const afterLowering = lowered.map((each) => ({ ceiling: each.ceiling, greatestIn60s: greatestSince(each.from) }));
/** @type {{ greatestCountedIn60s: number, throttled: number, counted: number }} */
const account = Object.values(stats.accounts)[0] ?? { greatestCountedIn60s: 0, throttled: 0, counted: 0 };
/** @param {number} from @param {number} to */
const rate = (from, to) =>
  Math.round(
    (seen.filter(({ at, status }) => status === 200 && at >= from && at < to).length / Math.max(1, to - from)) * 60_000,
  );
/** @param {string} tenant */
const got = (tenant) =>
  seen.filter((each) => each.tenant === tenant && each.status === 200 && each.at > begin + 60_000).length;
const shares = tenants.map(got);
const jain =
  shares.reduce((sum, each) => sum + each, 0) ** 2 / (shares.length * shares.reduce((sum, each) => sum + each ** 2, 0));
const ok = seen
  .filter(({ status }) => status === 200)
  .map(({ at }) => at)
  .sort((a, b) => a - b);
let gap = 0;
for (let i = 1; i < ok.length; i++)
  gap = Math.max(gap, /** @type {number} */ (ok[i]) - /** @type {number} */ (ok[i - 1]));
const statuses = Object.fromEntries(
  [...new Set(seen.map(({ status }) => status))]
    .sort()
    .map((each) => [each, seen.filter(({ status }) => status === each).length]),
);
const report = {
  fault: values.fault,
  gateways: Number(values.gateways),
  ceiling,
  greatestIn60s: account.greatestCountedIn60s,
  arrivedIn60s: stats.greatestIn60s,
  afterLowering,
  upstream429: account.throttled,
  goodput: {
    before: rate(Math.min(begin + 30_000, faultAt), faultAt),
    during: rate(faultAt, calmAt),
    after: rate(calmAt, begin + minutes * 60_000),
    overall: rate(begin, begin + minutes * 60_000),
  },
  jain: Math.round(jain * 10_000) / 10_000,
  shares: Object.fromEntries(tenants.map((tenant, i) => [tenant, shares[i]])),
  statuses,
  longestGapMs: Math.round(gap),
  seconds: Math.round((ended - begin) / 1000),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
await fleet.close();
cleanUp();
const failed =
  account.greatestCountedIn60s > ceiling ||
  afterLowering.some((each) => each.greatestIn60s > each.ceiling) ||
  (values.fault !== 'foreign' && account.throttled > 0);
process.stdout.write(failed ? 'FAILED: above the ceiling, or a 429 from upstream\n' : 'held\n');
process.exit(failed ? 1 : 0);
