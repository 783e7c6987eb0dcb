import { fileURLToPath } from 'node:url';
import { randomOf, VirtualClock } from './virtual-clock.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const { Throttle } = /** @type {typeof import('../../../src/simulator/throttle.ts')} */ (
  await import(inRoot('dist/simulator/throttle.js'))
);
const { DEFAULT_SWITCHES } = /** @type {typeof import('../../../src/simulator/switches.ts')} */ (
  await import(inRoot('dist/simulator/switches.js'))
);
const { parseAdvertisedLimit } = /** @type {typeof import('../../../src/quota/headers.ts')} */ (
  await import(inRoot('dist/quota/headers.js'))
);

/** Latencies in one direction, from the gateway to the counter or back. Means and tails in ms. */
export const LATENCIES = {
  calm: { mean: 40, tail: 0, longest: 0 },
  jittery: { mean: 120, tail: 0.02, longest: 5_000 },
  wild: { mean: 400, tail: 0.05, longest: 20_000 },
};

const WARM_UP_MS = 120_000;
const LIMIT = 240;

/**
 * @typedef {{ goodput: number, throttledPerMinute: number, greatest: number, jain: number, waits: [number, number, number], series: number[], got: Record<string, number> }} Result
 * @param {{ contestant: (course: import('./contestants.mjs').Course) => Promise<import('./contestants.mjs').Contestant>, seed: number, minutes: number, latency: keyof typeof LATENCIES, greedy: boolean, redis: import('ioredis').Redis | null }} options
 * @returns {Promise<Result>}
 */
export async function simulate({ contestant, seed, minutes, latency, greedy, redis }) {
  const clock = new VirtualClock();
  const random = randomOf(seed);
  const tenants = Array.from({ length: 10 }, (_, i) => `t${i}`);
  const all = greedy ? [...tenants, 'greedy'] : tenants;
  const course = await contestant({ clock, random: randomOf(seed + 1_000), tenants: all, limit: LIMIT, redis });
  const throttle = new Throttle(clock, { ...DEFAULT_SWITCHES, windowMs: 60_000, bareThrottle: false });
  const { mean, tail, longest } = LATENCIES[latency];
  const oneWay = () => 2 - Math.log(1 - random()) * mean + (random() < tail ? random() * longest : 0);

  /** @type {number[]} */
  const arrivals = [];
  /** @type {number[]} */
  const waits = [];
  /** @type {Record<string, number>} */
  const got = Object.fromEntries(all.map((id) => [id, 0]));
  let throttled = 0;
  let good = 0;
  const end = WARM_UP_MS + minutes * 60_000;
  const counts = () => clock.monotonic() >= WARM_UP_MS && clock.monotonic() < end;
  const pause = (/** @type {number} */ ms) => new Promise((resolve) => clock.after(ms, () => resolve(null)));

  /** @param {string} tenant */
  async function caller(tenant) {
    await pause(random() * 1_000);
    while (clock.monotonic() < end) {
      const since = clock.monotonic();
      let grant = await course.ask(tenant);
      while (!grant.ok) {
        await pause(grant.retryMs);
        if (clock.monotonic() >= end) return;
        grant = await course.ask(tenant);
      }
      const { answered } = grant;
      if (counts()) waits.push(clock.monotonic() - since);
      await pause(oneWay());
      arrivals.push(clock.monotonic());
      const verdict = throttle.hit('account', LIMIT);
      if (verdict.rejected && counts()) throttled += 1;
      await pause(oneWay());
      answered(
        parseAdvertisedLimit({
          status: verdict.rejected ? 429 : 200,
          headers: verdict.headers,
          now: clock.now(),
          onInvalid: () => {},
        }),
      );
      if (!verdict.rejected && counts()) {
        good += 1;
        got[tenant] = (got[tenant] ?? 0) + 1;
      }
    }
  }
  for (const id of all) for (let i = 0; i < (id === 'greedy' ? 60 : 6); i++) void caller(id);
  for (;;) {
    const more = clock.step(end);
    await new Promise((resolve) => setImmediate(resolve));
    await course.settle();
    await new Promise((resolve) => setImmediate(resolve));
    if (!more) break;
  }
  await course.close();
  const shares = tenants.map((id) => got[id] ?? 0);
  const jain =
    shares.reduce((sum, each) => sum + each, 0) ** 2 /
    (shares.length * shares.reduce((sum, each) => sum + each ** 2, 0));
  waits.sort((a, b) => a - b);
  const percentile = (/** @type {number} */ p) => waits[Math.min(waits.length - 1, Math.floor(waits.length * p))] ?? 0;
  return {
    goodput: good / minutes,
    throttledPerMinute: throttled / minutes,
    greatest: greatestInAnyMinute(arrivals),
    jain,
    waits: [percentile(0.5), percentile(0.95), percentile(0.99)],
    series: inTheLastMinute(arrivals, end),
    got,
  };
}

/** Exact, over all moments. @param {number[]} arrivals ascending */
export function greatestInAnyMinute(arrivals) {
  let greatest = 0;
  for (let to = 0, from = 0; to < arrivals.length; to++) {
    while (/** @type {number} */ (arrivals[from]) <= /** @type {number} */ (arrivals[to]) - 60_000) from++;
    greatest = Math.max(greatest, to - from + 1);
  }
  return greatest;
}

/** How many arrived in the 60 s before each second. @param {number[]} arrivals @param {number} end */
function inTheLastMinute(arrivals, end) {
  const series = [];
  for (let at = 60_000, from = 0, to = 0; at <= end; at += 1_000) {
    while (to < arrivals.length && /** @type {number} */ (arrivals[to]) <= at) to++;
    while (from < arrivals.length && /** @type {number} */ (arrivals[from]) <= at - 60_000) from++;
    series.push(to - from);
  }
  return series;
}
