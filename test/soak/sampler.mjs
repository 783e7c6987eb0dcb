// Samples the gateways and Redis every few seconds, from /proc, /metrics and INFO.
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { request } from 'undici';
import { pause } from '../chaos/rig.mjs';
import { isCalm } from './faults.mjs';
import { collectGarbage } from './garbage.mjs';
import { WINDOW_SECONDS } from './log.mjs';
import { socketsOf } from './sockets.mjs';

/**
 * @typedef {object} GatewaySample
 * @property {number} rssMb
 * @property {number} heapMb
 * @property {number} externalMb
 * @property {number} handles what keeps its event loop busy, but for connections of callers: timers, requests, other sockets
 * @property {number} descriptors
 * @property {number} callers
 * @property {number} upstream
 * @property {number} abandoned
 * @property {number} otherDescriptors what is open and no connection to a caller or the upstream
 * @property {number} loopP99Ms since the sample before
 * @property {number} inFlight
 * @property {number} waiting
 */
/**
 * @typedef {object} Sample
 * @property {number} at seconds since the start
 * @property {boolean} settled taken in calm times, after garbage was collected
 * @property {GatewaySample[]} gateways
 * @property {{ mb: number, keys: number } | null} redis
 * @property {number} generatorP99Ms
 */

/** Seconds; the stop for a collection is one in what callers see, so not at every sample. */
const SETTLED_EVERY = 15;
/** Requests that waited for the collection have their response by then. */
const AFTER_COLLECTION_MS = 1_000;

const MB = 1024 * 1024;

/** @param {string} admin @returns {Promise<Map<string, number>>} by name, all series of it together, and each by itself */
export async function scrape(admin) {
  // A connection of its own: a kept one could be closed at this very moment, as it is idle for as long as servers keep them.
  const response = await request(`${admin}/metrics`, { reset: true, headersTimeout: 10_000, bodyTimeout: 10_000 });
  const text = await response.body.text();
  /** @type {Map<string, number>} */
  const values = new Map();
  for (const line of text.split('\n')) {
    const end = line.lastIndexOf(' ');
    if (line.startsWith('#') || end < 0) continue;
    const [series, value] = [line.slice(0, end), Number(line.slice(end + 1))];
    const name = series.split('{', 1)[0] ?? series;
    if (series !== name) values.set(series, value);
    values.set(name, (values.get(name) ?? 0) + value);
  }
  return values;
}

/** @param {import('./stage.mjs').Gateway} gateway @param {number} upstreamPort @returns {Promise<GatewaySample>} */
async function sampleGateway({ child, admin, port }, upstreamPort) {
  const values = await scrape(admin);
  const of = (/** @type {string} */ name) => values.get(name) ?? 0;
  const pid = /** @type {number} */ (child.pid);
  const sockets = socketsOf(pid, { traffic: port, upstream: upstreamPort });
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return {
    ...sockets,
    rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
    heapMb: of('nodejs_heap_size_used_bytes') / MB,
    externalMb: of('nodejs_external_memory_bytes') / MB,
    otherDescriptors: sockets.descriptors - sockets.callers - sockets.upstream,
    handles: of('nodejs_active_resources') - sockets.callers,
    loopP99Ms: of('nodejs_eventloop_lag_p99_seconds') * 1000,
    inFlight: of('patchgate_http_requests_in_flight'),
    waiting: of('patchgate_quota_waiting'),
  };
}

/** @param {import('ioredis').Redis} client @returns {Promise<Sample['redis']>} null while it is away */
async function sampleRedis(client) {
  try {
    const [info, keys] = await Promise.all([client.info('memory'), client.dbsize()]);
    return { mb: Number(/used_memory:(\d+)/.exec(info)?.[1] ?? 0) / MB, keys };
  } catch {
    return null;
  }
}

/**
 * Samples until it is stopped.
 * @param {import('./stage.mjs').Stage} stage @param {() => number} seconds
 * @param {readonly import('./faults.mjs').Happening[]} schedule
 */
export function startSampling(stage, seconds, schedule) {
  /** @type {Sample[]} */
  const samples = [];
  /** @type {string[]} */
  const failures = [];
  const own = monitorEventLoopDelay({ resolution: 10 });
  own.enable();
  const upstreamPort = Number(new URL(stage.upstream.url).port);
  let busy = false;
  let settledAt = Number.NEGATIVE_INFINITY;
  const take = async () => {
    if (busy) return;
    busy = true;
    try {
      const at = seconds();
      const settled = isCalm(schedule, at, at + WINDOW_SECONDS) && at - settledAt >= SETTLED_EVERY - 1;
      if (settled) {
        settledAt = at;
        for (const { inspector } of stage.gateways) await collectGarbage(inspector);
        await pause(AFTER_COLLECTION_MS);
      }
      const [gateways, redis] = await Promise.all([
        Promise.all(stage.gateways.map((gateway) => sampleGateway(gateway, upstreamPort))),
        sampleRedis(stage.redis.client),
      ]);
      samples.push({ at, settled, gateways, redis, generatorP99Ms: own.percentile(99) / 1e6 });
      own.reset();
    } catch (error) {
      failures.push(`${seconds().toFixed(0)} s: ${error}`);
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void take(), WINDOW_SECONDS * 1000);
  return {
    samples,
    failures,
    stop: () => {
      clearInterval(timer);
      own.disable();
    },
  };
}
