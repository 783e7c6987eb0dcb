// What the gateways and Redis are like, every few seconds: from /proc, /metrics and INFO.
import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { request } from 'undici';
import { WINDOW_SECONDS } from './log.mjs';

/**
 * @typedef {object} GatewaySample
 * @property {number} rssMb
 * @property {number} heapMb
 * @property {number} externalMb
 * @property {number} descriptors
 * @property {number} handles what keeps its event loop busy: sockets, timers, requests
 * @property {number} loopP99Ms since the sample before
 * @property {number} inFlight
 * @property {number} waiting
 */
/** @typedef {{ at: number, gateways: GatewaySample[], redis: { mb: number, keys: number } | null, generatorP99Ms: number }} Sample */

const MB = 1024 * 1024;

/** @param {string} admin @returns {Promise<Map<string, number>>} by name, all series of it together, and each by itself */
export async function scrape(admin) {
  // A connection of its own: a kept one could be closed at this very moment, as it is idle for as long as servers keep them.
  const answer = await request(`${admin}/metrics`, { reset: true, headersTimeout: 10_000, bodyTimeout: 10_000 });
  const text = await answer.body.text();
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

/** @param {import('./stage.mjs').Gateway} gateway @returns {Promise<GatewaySample>} */
async function sampleGateway({ child, admin }) {
  const values = await scrape(admin);
  const of = (/** @type {string} */ name) => values.get(name) ?? 0;
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return {
    rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
    heapMb: of('nodejs_heap_size_used_bytes') / MB,
    externalMb: of('nodejs_external_memory_bytes') / MB,
    descriptors: readdirSync(`/proc/${child.pid}/fd`).length,
    handles: of('nodejs_active_resources'),
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
 */
export function startSampling(stage, seconds) {
  /** @type {Sample[]} */
  const samples = [];
  /** @type {string[]} */
  const failures = [];
  const own = monitorEventLoopDelay({ resolution: 10 });
  own.enable();
  let busy = false;
  const take = async () => {
    if (busy) return;
    busy = true;
    try {
      const at = seconds();
      const [gateways, redis] = await Promise.all([
        Promise.all(stage.gateways.map(sampleGateway)),
        sampleRedis(stage.redis.client),
      ]);
      samples.push({ at, gateways, redis, generatorP99Ms: own.percentile(99) / 1e6 });
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
