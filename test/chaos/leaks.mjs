// Compares the resources that an idle gateway holds before and after a run.
import { readdirSync, readFileSync } from 'node:fs';
import { until } from './rig.mjs';

/** @typedef {import('./types.ts').Gateway} Gateway */
/** @typedef {{ pid: number, files: number, rssMiB: number }} Footprint */

/** Descriptors that come and go by themselves: a connection to Redis that is being replaced, a timer's, a scrape's. */
const SPARE_FILES = 3;
/** Caches and compiled code grow under the first load; what leaks per request is far above it in the long form. */
const MORE_MIB = 120;
const SETTLE_MS = 15_000;

/** @param {Gateway} gateway @returns {Footprint} */
export function footprint(gateway) {
  const pid = gateway.child().pid ?? 0;
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const rssKiB = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
  return { pid, files: readdirSync(`/proc/${pid}/fd`).length, rssMiB: Math.round(rssKiB / 1024) };
}

/** @param {string} text @param {string} name the sum of its series */
export function sumOf(text, name) {
  const series = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return series.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** @param {Gateway} gateway */
const metricsOf = async ({ adminUrl }) =>
  (await fetch(`${adminUrl}/metrics`, { headers: { Connection: 'close' } })).text();

/**
 * @param {Gateway} gateway @param {Footprint} before @param {number} more connections that a Cluster's nodes get when they are first needed
 * @returns {Promise<string[]>} what it still holds
 */
export async function leaksOf(gateway, before, more) {
  /** @type {string[]} */
  let held = [];
  const settled = async () => {
    // Idle connections to upstream are kept on purpose.
    gateway.toUpstream.cut('close');
    const text = await metricsOf(gateway);
    const now = footprint(gateway);
    const first = now.pid === before.pid ? before : { ...before, rssMiB: now.rssMiB };
    const gauge = (/** @type {string} */ name) => {
      const value = sumOf(text, name);
      return value === 0 ? [] : [`gateway ${gateway.index}: ${name} is ${value}`];
    };
    held = [
      ...gauge('patchgate_http_requests_in_flight'),
      ...gauge('patchgate_quota_waiting'),
      ...(now.files > first.files + SPARE_FILES + more
        ? [`gateway ${gateway.index}: ${now.files} open files, ${first.files} before`]
        : []),
      ...(now.rssMiB > first.rssMiB + MORE_MIB
        ? [`gateway ${gateway.index}: ${now.rssMiB} MiB, ${first.rssMiB} before`]
        : []),
    ];
    return held.length === 0;
  };
  await until('everything is given back', settled, SETTLE_MS).catch(() => {});
  return held;
}
