// All that the suite knows to do wrong.
import { gatewayFaults } from './gateways.mjs';
import { movedFaults } from './moved.mjs';
import { redisFaults } from './redis.mjs';
import { redisWireFaults } from './redis-wire.mjs';
import { upstreamFaults } from './upstream.mjs';
import { flakyFaults } from './upstream-flaky.mjs';

/** @type {readonly import('../types.ts').Fault[]} */
export const faults = [
  // As near to the default of 100 ms as an ordinary machine allows.
  ...[...redisFaults, ...redisWireFaults].map((fault) => ({ redisTimeout: '250ms', ...fault })),
  ...upstreamFaults,
  ...flakyFaults,
  ...movedFaults,
  ...gatewayFaults,
];

const of = (/** @type {import('../types.ts').State} */ state) => (/** @type {string} */ name) => {
  const fault = faults.find((each) => each.name === name);
  if (fault === undefined) throw new Error(`there is no fault ${name}`);
  return { fault, state };
};

/** Part of `npm run test:full`: one for each promise, a minute or two each. */
export const short = [
  ...['redis-hung', 'redis-partition-silent'].map(of('alone')),
  ...['redis-failed-over', 'redis-failed-over-by-command'].map(of('sentinel')),
  ...['redis-restarted-empty', 'redis-failed-over-by-command'].map(of('cluster')),
  ...['upstream-reset', 'upstream-truncated', 'upstream-flaky', 'upstream-429'].map(of('alone')),
  ...['upstream-moved', 'gateway-killed'].map(of('alone')),
];
