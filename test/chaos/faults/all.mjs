// All that the suite knows to do wrong.
import { redisFaults } from './redis.mjs';

/** @type {readonly import('../types.ts').Fault[]} */
export const faults = [...redisFaults];
