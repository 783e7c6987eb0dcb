// Real gateways on a real Redis in front of the simulator, saturated, while something goes wrong. Judged by what the
// simulator counted. Loopback only; ends by itself; kills only what it started.
//
//     npm run chaos:quota -- --fault redis-kill --minutes 3 --ceiling 235
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { cleanUp, cleanUpAtTheEnd, end, freePort, MAIN, pause, scratch, start, startRedis } from './rig.mjs';
import { wire } from './wire.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
// The built product: by a path that the type checker does not follow.
const { createSimulator } = await import(inRoot('dist/simulator/simulator.js'));

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    fault: { type: 'string', default: 'none' },
    minutes: { type: 'string', default: '3' },
    ceiling: { type: 'string', default: '235' },
    limit: { type: 'string', default: '240' },
    // What the simulator really allows: below the ceiling, to see that this run can fail.
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

/** @param {string} upstream @param {object} redis @param {number} limitTo @param {number} port */
function configuration(upstream, redis, limitTo, port) {
  return JSON.stringify({
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: 0 } },
    redis,
    accounts: {
      main: {
        quota: { limit: Number(values.limit), ceiling: limitTo, burst: 60 },
        credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
      },
    },
    upstreams: { core: { origin: upstream }, start: { origin: upstream } },
    log: { level: 'warn' },
    drain: { delay: '200ms', timeout: '5s' },
    tenants: Object.fromEntries(
      tenants.map((id) => [
        id,
        {
          keys: [{ id: 'only', sha256: hash(keyOf(id)) }],
          quota: { burst: 100, ...(values.fault === 'guarantee' && id === 't0' && { guarantee: 100 }) },
        },
      ]),
    ),
  });
}

/** @typedef {{ url: string, admin: string, child: import('node:child_process').ChildProcess, file: string, alive: boolean, port: number }} Gateway */
/** @param {string} upstream @param {object} redis @param {number} [port] @returns {Promise<Gateway>} */
async function startGateway(upstream, redis, port) {
  const at = port ?? (await freePort());
  const file = join(scratch, `gateway-${at}.json`);
  writeFileSync(file, configuration(upstream, redis, ceiling, at));
  const child = start(process.execPath, [MAIN, 'serve', '--config', file]);
  child.stderr?.on('data', (chunk) => process.stderr.write(chunk));
  child.stdout?.on('data', (chunk) => {
    if (/"level":"(warn|error|fatal)"/.test(String(chunk)) && process.env['VERBOSE']) process.stderr.write(chunk);
  });
  const url = `http://127.0.0.1:${at}`;
  for (let i = 0; ; i++) {
    const answer = await fetch(`${url}/_gateway/whoami`, { headers: { 'X-API-Key': keyOf('t0') } }).catch(() => null);
    if (answer !== null) break;
    if (i > 200) throw new Error('the gateway does not start');
    await pause(50);
  }
  return { url, admin: '', child, file, alive: true, port: at };
}

const jitter = { kind: /** @type {const} */ ('exponential'), minMs: 5, meanMs: 120, maxMs: 5_000 };
const simulator = await createSimulator({
  switches: { limit: Number(values['upstream-limit'] ?? values.limit), arrivalLatency: jitter, answerLatency: jitter },
});
const redisPort = await freePort();
let redisServer = await startRedis(redisPort);
const link = await wire(redisPort);
/** @type {object} */
let redis = { url: `redis://127.0.0.1:${redisPort}` };
/** @type {import('node:child_process').ChildProcess[]} */
if (values.fault === 'sentinel') {
  const replicaPort = await freePort();
  await startRedis(replicaPort, ['--replicaof', '127.0.0.1', String(redisPort), '--repl-diskless-sync-delay', '0']);
  const sentinels = [];
  for (let i = 0; i < 3; i++) {
    const port = await freePort();
    const file = join(scratch, `sentinel-${port}.conf`);
    writeFileSync(
      file,
      `port ${port}\nbind 127.0.0.1\ndir ${scratch}\nsentinel monitor mymaster 127.0.0.1 ${redisPort} 2\nsentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n`,
    );
    start('redis-server', [file, '--sentinel']).stdout?.resume();
    sentinels.push(`127.0.0.1:${port}`);
  }
  await pause(4_000);
  redis = { sentinels, name: 'mymaster' };
}
/** @type {Gateway[]} */
const gateways = [];
for (let i = 0; i < Number(values.gateways); i++) {
  const cut = values.fault?.startsWith('partition') && i === 0;
  gateways.push(await startGateway(simulator.url, cut ? { url: `redis://127.0.0.1:${link.port}` } : redis));
}

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
    const living = gateways.filter(({ alive }) => alive);
    const { url } = /** @type {Gateway} */ (living[Math.floor(Math.random() * living.length)]);
    const from = performance.now();
    let status = 0;
    let retryMs = 200;
    try {
      const answer = await fetch(`${url}/api/v1/flow-runs?per_page=1`, {
        headers: { 'X-API-Key': keyOf(tenant) },
        signal: AbortSignal.timeout(60_000),
      });
      await answer.arrayBuffer();
      status = answer.status;
      if (status === 429 || status === 503)
        retryMs = Math.min(1_000, Number(answer.headers.get('retry-after') ?? 1) * 1000);
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
  flushall: async () => {
    const client = new Redis({ port: redisPort });
    await client.flushall();
    client.disconnect();
  },
  'redis-kill': async () => {
    await end(redisServer);
    await pause(5_000);
    redisServer = await startRedis(redisPort);
  },
  'redis-restart-stale': async () => {
    const client = new Redis({ port: redisPort });
    await client.save();
    client.disconnect();
    await pause(10_000);
    await end(redisServer);
    await pause(1_000);
    redisServer = await startRedis(redisPort);
  },
  'redis-stop': async () => {
    redisServer.kill('SIGSTOP');
    await pause(20_000);
    redisServer.kill('SIGCONT');
  },
  sentinel: async () => end(redisServer),
  'gateway-kill': async () => {
    const victim = /** @type {Gateway} */ (gateways[0]);
    victim.alive = false;
    await end(victim.child);
  },
  'gateway-restart': async () => {
    const victim = /** @type {Gateway} */ (gateways[0]);
    victim.alive = false;
    await end(victim.child);
    await pause(1_000);
    gateways[0] = await startGateway(simulator.url, redis, victim.port);
  },
  'gateway-stop': async () => {
    const victim = /** @type {Gateway} */ (gateways[0]);
    victim.child.kill('SIGSTOP');
    await pause(20_000);
    victim.child.kill('SIGCONT');
  },
  'partition-refused': async () => {
    link.refuse();
    await pause(45_000);
    await link.heal();
  },
  'partition-swallowed': async () => {
    link.set({ swallow: true });
    await pause(45_000);
    await link.heal();
  },
  'join-leave': async () => {
    const leaving = /** @type {Gateway} */ (gateways[0]);
    gateways.push(await startGateway(simulator.url, redis));
    leaving.alive = false;
    await end(leaving.child, 'SIGTERM');
  },
  // Ten of them under load: the ceiling goes down, to and fro, and stays down.
  reload: async () => {
    for (let i = 1; i <= 10; i++) {
      const to = i % 2 === 1 ? ceiling - 35 : i === 10 ? ceiling - 36 : ceiling - 20;
      for (const gateway of gateways) {
        writeFileSync(gateway.file, configuration(simulator.url, redis, to, gateway.port));
        gateway.child.kill('SIGHUP');
      }
      await pause(1_000);
    }
    lowered.push({ ceiling: ceiling - 36, from: performance.now() });
  },
  foreign: async () => {
    const until = performance.now() + third * 0.8;
    while (performance.now() < until) {
      simulator.useForeign(5);
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
    .map((/** @type {{ countedAt: number | null }} */ { countedAt }) => countedAt)
    .filter((/** @type {number | null} */ at) => at !== null && at >= from)
    .sort((/** @type {number} */ a, /** @type {number} */ b) => a - b);
  let [first, greatest] = [0, 0];
  for (let i = 0; i < times.length; i++) {
    while (times[i] - times[first] >= 60_000) first += 1;
    greatest = Math.max(greatest, i - first + 1);
  }
  return greatest;
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
for (const gateway of gateways) await end(gateway.child);
await link.close();
await simulator.close();
cleanUp();
const failed =
  account.greatestCountedIn60s > ceiling ||
  afterLowering.some((each) => each.greatestIn60s > each.ceiling) ||
  (values.fault !== 'foreign' && account.throttled > 0);
process.stdout.write(failed ? 'FAILED: above the ceiling, or a 429 from upstream\n' : 'held\n');
process.exit(failed ? 1 : 0);
