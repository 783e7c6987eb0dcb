// The same as text: what each part of a millisecond of work does, and which functions.
import { byFunction, byGroup } from './analyse.mjs';

const FUNCTIONS = 50;

/** @param {import('./analyse.mjs').Frame} tree @param {number} requests in the time that was sampled */
export function profileText(tree, requests) {
  const perRequest = (/** @type {number} */ micros) => (micros / requests).toFixed(2).padStart(7);
  const ofMillisecond = (/** @type {number} */ micros) => ((micros / tree.total) * 1_000).toFixed(0).padStart(6);
  const line = (/** @type {number} */ self, /** @type {string} */ what) =>
    `${ofMillisecond(self)}  ${perRequest(self)}   ${what}`;
  const head = 'µs/ms  µs/req   ';
  return [
    `${requests} requests, ${(tree.total / requests).toFixed(1)} µs of work each (sampled; idle time left out)`,
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
