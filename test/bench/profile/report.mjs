// The same as text: what each part of a millisecond of work does, and which functions.
import { byFunction, byGroup } from './analyse.mjs';

const FUNCTIONS = 50;

/**
 * @param {import('./analyse.mjs').Frame} tree
 * @param {{ requests: number, cpuMs: number }} load in the time that was sampled, and what the kernel says it cost
 */
export function profileText(tree, { requests, cpuMs }) {
  const perRequest = (/** @type {number} */ micros) => (micros / requests).toFixed(2).padStart(7);
  const ofMillisecond = (/** @type {number} */ micros) => ((micros / tree.total) * 1_000).toFixed(0).padStart(6);
  const line = (/** @type {number} */ self, /** @type {string} */ what) =>
    `${ofMillisecond(self)}  ${perRequest(self)}   ${what}`;
  const head = 'µs/ms  µs/req   ';
  return [
    `${requests} requests, ${(tree.total / requests).toFixed(1)} µs of work each (sampled; idle time left out)`,
    // Samples are taken by the clock: they count what other programs had of the core in the meantime.
    `CPU by the kernel: ${((cpuMs * 1_000) / requests).toFixed(1)} µs a request; far less than that means a machine that is not quiet`,
    '',
    `${head}whose code`,
    ...byGroup(tree).map(({ name, self }) => line(self, name)),
    '',
    `${head}function`,
    ...byFunction(tree)
      .slice(0, FUNCTIONS)
      .map(({ name, place, group, self }) => line(self, `${name}  ${place || group}`)),
    '',
  ].join('\n');
}
