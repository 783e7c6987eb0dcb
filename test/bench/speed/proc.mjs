// Reads CPU time and memory of a process and its descendants from the kernel. Linux only, like the pinning.
import { readdirSync, readFileSync } from 'node:fs';

/** `getconf CLK_TCK`: 100 on every Linux that Node runs on. */
const TICKS_A_SECOND = 100;

/**
 * @param {string} stat a line of /proc/PID/stat
 * @returns {{ pid: number, parent: number, cpuMs: number }}
 */
export function parseStat(stat) {
  // The name stands in parentheses and may hold anything, more of them too.
  const rest = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [parent, user, system] = [rest[1], rest[11], rest[12]].map(Number);
  if (parent === undefined || user === undefined || system === undefined || Number.isNaN(parent + user + system)) {
    throw new Error(`not a line of /proc/PID/stat: ${stat}`);
  }
  return { pid: Number.parseInt(stat, 10), parent, cpuMs: ((user + system) * 1000) / TICKS_A_SECOND };
}

/**
 * @param {string} stat text of /proc/stat @param {number} core
 * @returns {number} ms that programs have had of that core; interrupts and what the hypervisor took are not theirs
 */
export function parseCore(stat, core) {
  const [user, nice, system] = (new RegExp(`^cpu${core} (.*)$`, 'm').exec(stat)?.[1] ?? '').split(' ').map(Number);
  if (user === undefined || nice === undefined || system === undefined)
    throw new Error(`no core ${core} in /proc/stat`);
  return ((user + nice + system) * 1000) / TICKS_A_SECOND;
}

/** @param {number} core */
export const readCore = (core) => parseCore(readFileSync('/proc/stat', 'utf8'), core);

/** @param {string} status text of /proc/PID/status @returns {number} bytes in memory now */
export function parseRss(status) {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  return kib === undefined ? 0 : Number(kib) * 1024;
}

/**
 * The process and its descendants: a master and its workers are one contestant.
 * @param {number} root
 * @returns {{ cpuMs: number, rssBytes: number }}
 */
export function readTree(root) {
  const tree = treeOf(root);
  return {
    cpuMs: tree.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    rssBytes: tree.reduce((sum, { pid }) => sum + parseRss(readOrNull(`/proc/${pid}/status`) ?? ''), 0),
  };
}

/** The process and all below it, now. @param {number} root */
export function treeOf(root) {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readOrNull(`/proc/${name}/stat`))
    .flatMap((stat) => (stat === null ? [] : [parseStat(stat)]));
  return descendants(all, root);
}

/**
 * @template {{ pid: number, parent: number }} P
 * @param {readonly P[]} all @param {number} root
 * @returns {P[]}
 */
export function descendants(all, root) {
  const found = all.filter(({ pid }) => pid === root);
  for (const each of found) found.push(...all.filter(({ parent }) => parent === each.pid));
  return found;
}

/** Processes end while they are read. @param {string} path */
function readOrNull(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
