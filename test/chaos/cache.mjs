// Does a read ever miss a write that was answered before it began? Three real gateways on a real Redis, with writers and
// readers on all of them, while something goes wrong in the middle. Judged by the callers' own log. Loopback only; ends by
// itself; kills only what it started.
//
//     npm run chaos:cache -- --fault redis-kill --seconds 30
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { startFleet } from './fleet.mjs';
import { cleanUp, cleanUpAtTheEnd, pause } from './rig.mjs';

const FAULTS = ['none', 'redis-kill', 'redis-stop', 'flushall', 'partition', 'gateway-kill', 'gateway-stop'];
cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    fault: { type: 'string', default: 'none' },
    seconds: { type: 'string', default: '30' },
  },
});
if (!FAULTS.includes(values.fault)) throw new Error(`--fault must be one of ${FAULTS.join(', ')}`);
const seconds = Number(values.seconds);
/** How long the fault lasts. */
const FAULT_MS = 6_000;
/** The stated bound: a replica detects silence within 3 s, and serves cached entries for `cache.maxDisconnectedAge` longer. */
const UNHEARD_MS = 2_000;
const STATED_MS = 3_000 + UNHEARD_MS;
const KEY = 'fake-chaos-key';
const PLENTY = { limit: 1_000_000, ceiling: 900_000, burst: 50_000 };
const LISTS = Array.from({ length: 8 }, (_, i) => `/api/v1/scripts?per_page=1&sort=-id&list=${i}`);

/** @param {import('./types.ts').Addresses} ways */
function configuration({ port, upstreamPort, redis }) {
  const origin = `http://127.0.0.1:${upstreamPort}`;
  return {
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: 0 } },
    redis,
    accounts: { main: { quota: PLENTY, credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }] } },
    upstreams: { core: { origin }, start: { origin } },
    cache: {
      maxDisconnectedAge: `${UNHEARD_MS}ms`,
      rules: [{ match: 'GET /api/v1/scripts', ttl: '5m' }],
    },
    log: { level: 'info' },
    tenants: {
      all: {
        keys: [{ id: 'only', sha256: createHash('sha256').update(KEY).digest('hex') }],
        quota: { rate: 900_000, burst: 50_000, maxWait: '10s' },
      },
    },
  };
}

/** @param {string} url @param {RequestInit} [init] */
const ask = (url, init = {}) =>
  fetch(url, { ...init, headers: { 'X-API-Key': KEY, Prefer: 'wait=5' }, signal: AbortSignal.timeout(20_000) });

const fleet = await startFleet({
  state: 'alone',
  configuration,
  simulator: {
    switches: { limit: PLENTY.limit, responseLatency: { kind: 'exponential', minMs: 1, meanMs: 20, maxMs: 500 } },
  },
});
const { gateways, simulator } = fleet;
const redis = await fleet.redis.holder();
await pause(4_000);

const startedAt = performance.now();
const at = () => performance.now() - startedAt;
const endsAt = seconds * 1_000;
const faultAt = endsAt / 3;
/** When each write was answered, by the id of what it made. @type {Map<number, number>} */
const answeredAt = new Map();
let writes = 0;
let failed = 0;
let longestWriteMs = 0;
/** @type {Map<string, number>} */
const statuses = new Map();
/** Reads that missed a write, by when they began and how long the oldest they missed had been answered by then. @type {{ at: number, lateMs: number, replica: number }[]} */
const missed = [];
let reads = 0;

const pick = () => Math.floor(Math.random() * gateways.length);

async function write() {
  while (at() < endsAt) {
    const begun = at();
    // Writes go through a gateway without a fault: the others learn of them only by invalidations.
    const gateway = /** @type {import('./types.ts').Gateway} */ (gateways[1]);
    const body = JSON.stringify({ name: `at ${Math.round(begun)}` });
    const response = await ask(`${gateway.url}/api/v1/scripts`, { method: 'POST', body }).catch(() => null);
    const text = response === null ? '' : await response.text().catch(() => '');
    if (response?.status === 201) {
      const { id } = JSON.parse(text).data;
      answeredAt.set(id, at());
      writes += 1;
      longestWriteMs = Math.max(longestWriteMs, at() - begun);
    } else failed += 1;
    await pause(50 * Math.random());
  }
}

async function read() {
  while (at() < endsAt) {
    const replica = pick();
    const begun = at();
    const list = LISTS[Math.floor(Math.random() * LISTS.length)];
    const response = await ask(`${gateways[replica]?.url}${list}`).catch(() => null);
    const text = response === null ? '' : await response.text().catch(() => '');
    if (response?.status !== 200) {
      failed += 1;
      await pause(20);
      continue;
    }
    reads += 1;
    const status =
      /^patchgate; (hit|fwd=\w+(?:; collapsed)?)/.exec(response.headers.get('cache-status') ?? '')?.[1] ?? 'none';
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    const id = JSON.parse(text).data[0]?.id ?? 0;
    let lateMs = 0;
    for (const [made, when] of answeredAt) if (made > id && when < begun) lateMs = Math.max(lateMs, begun - when);
    if (lateMs > 0) missed.push({ at: begun, lateMs, replica });
    await pause(2);
  }
}

async function inflict() {
  await pause(faultAt);
  const [first, , last] = /** @type {import('./types.ts').Gateway[]} */ (gateways);
  switch (values.fault) {
    case 'redis-kill':
      await redis.kill();
      await pause(FAULT_MS);
      return redis.start();
    case 'redis-stop':
      redis.stop();
      await pause(FAULT_MS);
      return redis.resume();
    case 'flushall':
      return void (await redis.client().flushall());
    case 'partition':
      last?.toRedis.set({ swallow: true });
      await pause(FAULT_MS);
      return last?.toRedis.heal();
    case 'gateway-kill':
      await first?.kill();
      await pause(FAULT_MS);
      return first?.start();
    case 'gateway-stop':
      last?.stop();
      await pause(FAULT_MS);
      return last?.resume();
  }
}

await Promise.all([write(), write(), ...Array.from({ length: 9 }, read), inflict()]);
const during = missed.filter((each) => each.at >= faultAt && each.at < faultAt + FAULT_MS + STATED_MS);
const greatest = (/** @type {typeof missed} */ all) => Math.round(Math.max(0, ...all.map(({ lateMs }) => lateMs)));
const result = {
  fault: values.fault,
  writes,
  reads,
  failed,
  longestWriteMs: Math.round(longestWriteMs),
  by: Object.fromEntries(statuses),
  missed: { outsideTheFault: missed.length - during.length, during: during.length },
  latestMissMs: {
    outsideTheFault: greatest(missed.filter((each) => !during.includes(each))),
    during: greatest(during),
  },
  upstream: simulator.stats().arrived,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
const bounded = greatest(during) <= STATED_MS;
const held =
  result.missed.outsideTheFault === 0 && bounded && writes > 0 && reads > 100 && (statuses.get('hit') ?? 0) > 0;
process.stdout.write(held ? 'held\n' : 'NOT HELD\n');
await fleet.close();
cleanUp();
process.exit(held ? 0 : 1);
