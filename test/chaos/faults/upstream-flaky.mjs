// An upstream that fails now and then: too seldom for the breaker, often enough for every retry that the budget allows.

/** @typedef {import('../types.ts').Fault} Fault */

const EVERY_MS = 80;

/** @type {Fault} */
const flaky = {
  name: 'upstream-flaky',
  about: 'some twelve reads a second are counted and answered 503; the rest succeeds',
  states: ['alone'],
  may: ['upstream 503'],
  inject: ({ simulator }) =>
    setInterval(() => {
      const fault = /** @type {const} */ ({ kind: 'status', status: 503 });
      simulator.clearFaults();
      simulator.fault({ match: 'GET /api/v1/flow-runs', fault, where: 'application', times: 1 });
    }, EVERY_MS),
  lift: ({ simulator }, timer) => {
    clearInterval(/** @type {NodeJS.Timeout} */ (timer));
    simulator.clearFaults();
  },
};

/** @type {readonly Fault[]} */
export const flakyFaults = [flaky];
