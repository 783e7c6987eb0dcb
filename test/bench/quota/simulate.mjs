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
/** A tenant that asks for less than its share. */
const MODEST_EVERY_MS = 5_000;

/**
 * @typedef {{ goodput: number, throttledPerMinute: number, greatest: number, jain: number, waits: [number, number, number], modest: { wait: number, refused: number }, longestPause: number, perTenSeconds: number[], got: Record<string, number> }} Result
 * @param {{ contestant: (course: import('./contestants.mjs').Course) => Promise<import('./contestants.mjs').Contestant>, seed: number, minutes: number, latency: keyof typeof LATENCIES, greedy: boolean, redis: import('ioredis').Redis | null }} options
 * @returns {Promise<Result>}
 */
export async function simulate({ contestant, seed, minutes, latency, greedy, redis }) {
  const clock = new VirtualClock();
  const random = randomOf(seed);
  const tenants = Array.from({ length: 10 }, (_, i) => `t${i}`);
  const all = [...tenants, ...(greedy ? ['greedy'] : []), 'modest'];
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

  /** @param {(seen: import('./contestants.mjs').Seen) => void} answered @returns {Promise<boolean>} whether it was a success */
  async function send(answered) {
    await pause(oneWay());
    arrivals.push(clock.monotonic());
    const { rejected, headers } = throttle.hit('account', LIMIT);
    if (rejected && counts()) throttled += 1;
    await pause(oneWay());
    answered(parseAdvertisedLimit({ status: rejected ? 429 : 200, headers, now: clock.now(), onInvalid: () => {} }));
    if (!rejected && counts()) good += 1;
    return !rejected;
  }

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
      if (counts()) waits.push(clock.monotonic() - since);
      if ((await send(grant.answered)) && counts()) got[tenant] = (got[tenant] ?? 0) + 1;
    }
  }
  /** @type {number[]} */
  const modestWaits = [];
  let modestRefused = 0;
  async function modestCaller() {
    for (await pause(random() * MODEST_EVERY_MS); clock.monotonic() < end; await pause(MODEST_EVERY_MS)) void askOnce();
  }
  async function askOnce() {
    const since = clock.monotonic();
    const grant = await course.ask('modest');
    if (counts()) {
      if (grant.ok) modestWaits.push(clock.monotonic() - since);
      else modestRefused += 1;
    }
    if (grant.ok) await send(grant.answered);
  }

  void modestCaller();
  for (const id of all) for (let i = 0; i < (id === 'modest' ? 0 : id === 'greedy' ? 60 : 6); i++) void caller(id);
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
  const percentileOf = (/** @type {number[]} */ list, /** @type {number} */ p) =>
    list.sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * p))] ?? 0;
  const percentile = (/** @type {number} */ p) => percentileOf(waits, p);
  const counted = arrivals.filter((at) => at >= WARM_UP_MS && at < end);
  return {
    goodput: good / minutes,
    throttledPerMinute: throttled / minutes,
    greatest: greatestInAnyMinute(arrivals),
    jain,
    waits: [percentile(0.5), percentile(0.95), percentile(0.99)],
    modest: {
      wait: percentileOf(modestWaits, 0.95),
      refused: modestRefused / Math.max(1, modestRefused + modestWaits.length),
    },
    longestPause: counted.reduce((most, at, i) => Math.max(most, at - (counted[i - 1] ?? at)), 0),
    perTenSeconds: inTenSeconds(counted, WARM_UP_MS, end),
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

/** How many arrived in each ten seconds. @param {number[]} arrivals @param {number} from @param {number} end */
function inTenSeconds(arrivals, from, end) {
  const counts = Array.from({ length: Math.ceil((end - from) / 10_000) }, () => 0);
  for (const at of arrivals) {
    const index = Math.floor((at - from) / 10_000);
    counts[index] = (counts[index] ?? 0) + 1;
  }
  return counts;
}
