// The targets of the design, and whether they are met: computed from what was measured, no row by hand.
import { median, ratios } from './statistics.mjs';

/**
 * @typedef {import('./rounds.mjs').Measured} Measured
 * @typedef {{ work: string, target: string, measured: string, met: boolean | null }} Row null: not measured in this run
 * @typedef {Partial<Record<string, Measured[]>>} Kinds
 * @typedef {{ goodput: number, throttled: number } | null} Goodput the worst of three replicas with jittery latency
 */

const MIB = 1024 * 1024;
const IDLE_MIB = 100;
const START_MS = 700;
const GOODPUT = 0.985;

/** @type {[work: string, kind: string, ours: string, theirs: string, least: number][]} requests a second beside those of another */
const RATIOS = [
  ['cached hit, access log off', 'hit', 'gateway-quiet', 'raw', 0.55],
  ['cached hit, access log on', 'hit', 'gateway', 'raw', 0.45],
  ['cached hit, access log off', 'hit', 'gateway-quiet', 'hono', 0.6],
  ['cached hit, access log on', 'hit', 'gateway', 'hono', 0.5],
  ['pass-through, everything on, embedded state', 'pass', 'gateway', 'fastify', 1.3],
  ['pass-through, everything on, state in Redis', 'pass', 'gateway-redis', 'fastify', 0.9],
];

/**
 * @param {Kinds} kinds @param {Goodput} goodput from the page: the simulation of the quota has runs of its own
 * @returns {Row[]}
 */
export function targetsOf(kinds, goodput) {
  const at = (/** @type {string} */ kind, /** @type {string} */ id) => kinds[kind]?.find((each) => each.id === id);
  const everywhere = Object.keys(kinds).flatMap((kind) => at(kind, 'gateway') ?? []);
  return [
    judged(
      'goodput, 3 replicas, jittery latency',
      `≥ ${GOODPUT} × ceiling, no 429 from the upstream`,
      goodput && {
        measured: `${goodput.goodput.toFixed(3)} × ceiling, ${goodput.throttled} (below)`,
        met: goodput.goodput >= GOODPUT && goodput.throttled === 0,
      },
    ),
    ...RATIOS.map(([work, kind, ours, theirs, least]) => {
      const [a, b] = [at(kind, ours), at(kind, theirs)];
      return judged(work, `≥ ${least.toFixed(2)} × ${b?.name ?? theirs}`, a && b && ratioOf(a, b, least));
    }),
    atMost(
      'memory, idle',
      IDLE_MIB * MIB,
      everywhere.map(({ idleBytes }) => idleBytes),
      mib,
    ),
    atMost(
      'start, from exec to ready',
      START_MS,
      everywhere.map(({ startMs }) => startMs),
      seconds,
    ),
  ];
}

/** @typedef {Pick<Row, 'measured' | 'met'>} Finding */

/** @param {string} work @param {string} target @param {Finding | null | undefined} finding @returns {Row} */
const judged = (work, target, finding) => ({
  work,
  target,
  ...(finding ?? { measured: 'not in this run', met: null }),
});

/** @param {Measured} ours @param {Measured} theirs @param {number} least @returns {Finding} */
function ratioOf(ours, theirs, least) {
  const rates = (/** @type {Measured} */ each) => each.rounds.map(({ rate }) => rate);
  const found = ratios(rates(ours), rates(theirs));
  const measured = `${found.median.toFixed(2)} (${found.least.toFixed(2)}–${found.most.toFixed(2)})`;
  return { measured, met: found.median >= least };
}

/** @param {string} work @param {number} most @param {readonly number[]} values @param {(value: number) => string} write */
function atMost(work, most, values, write) {
  const middle = values.length === 0 ? null : median(values);
  return judged(work, `≤ ${write(most)}`, middle === null ? null : { measured: write(middle), met: middle <= most });
}

const mib = (/** @type {number} */ bytes) => `${(bytes / MIB).toFixed(0)} MiB`;
const seconds = (/** @type {number} */ ms) => `${(ms / 1_000).toFixed(2)} s`;
