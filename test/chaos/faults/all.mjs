// All that the suite knows to do wrong.
import { gatewayFaults } from './gateways.mjs';
import { movedFaults } from './moved.mjs';
import { redisFaults } from './redis.mjs';
import { redisWireFaults } from './redis-wire.mjs';
import { upstreamFaults } from './upstream.mjs';
import { flakyFaults } from './upstream-flaky.mjs';

/** @type {readonly import('../types.ts').Fault[]} */
export const faults = [
  ...redisFaults,
  ...redisWireFaults,
  ...upstreamFaults,
  ...flakyFaults,
  ...movedFaults,
  ...gatewayFaults,
];
