// Counts the results of all requests by the time at which each was due.
import { Latencies } from './latencies.mjs';

/** Seconds of a window; samples are taken as often. */
export const WINDOW_SECONDS = 5;

/** @typedef {{ kind: string, counts: Map<string, number>, latencies: Latencies }} Tally */

/** Names the fault of a response that belongs to another request. @param {string} kind */
export const wrongResponse = (kind) => `the response to another request, ${kind}`;

export function createLog() {
  /** @type {Map<string, Tally>[]} by window, then kind */
  const windows = [];
  /** @type {Map<string, number>} */
  const wrong = new Map();
  let begun = 0;
  let ended = 0;

  return {
    begin: () => {
      begun += 1;
    },
    /** @param {string} kind @param {string} outcome @param {number} at seconds since the start @param {number} ms */
    end(kind, outcome, at, ms) {
      ended += 1;
      const index = Math.floor(at / WINDOW_SECONDS);
      const window = windows[index] ?? new Map();
      windows[index] = window;
      const tally = window.get(kind) ?? { kind, counts: new Map(), latencies: new Latencies() };
      window.set(kind, tally);
      tally.counts.set(outcome, (tally.counts.get(outcome) ?? 0) + 1);
      // How soon a caller left says nothing.
      if (outcome !== 'aborted') tally.latencies.add(ms);
    },
    /** Counts what no fault excuses, such as the response to another request. @param {string} what */
    wrong(what) {
      wrong.set(what, (wrong.get(what) ?? 0) + 1);
    },
    underWay: () => begun - ended,
    counts: () => ({ begun, ended, wrong: Object.fromEntries(wrong) }),
    /** @param {number} index */
    window: (index) => windows[index] ?? new Map(),
    size: () => windows.length,
  };
}

/** @typedef {ReturnType<typeof createLog>} Log */

/** @param {Log} log @param {(index: number) => boolean} wanted @returns {Map<string, Tally>} by kind */
export function together(log, wanted) {
  /** @type {Map<string, Tally>} */
  const all = new Map();
  for (let index = 0; index < log.size(); index++) {
    if (!wanted(index)) continue;
    for (const [kind, { counts, latencies }] of log.window(index)) {
      const tally = all.get(kind) ?? { kind, counts: new Map(), latencies: new Latencies() };
      all.set(kind, tally);
      for (const [outcome, count] of counts) tally.counts.set(outcome, (tally.counts.get(outcome) ?? 0) + count);
      tally.latencies.merge(latencies);
    }
  }
  return all;
}
