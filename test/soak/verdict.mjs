// Computes the verdict of a soak: each claim with its numbers, and whether it holds.
import { MOST_UPSTREAM } from './configuration.mjs';
import { cycleOf, isCalm } from './faults.mjs';
import { together, WINDOW_SECONDS, wrongResponse } from './log.mjs';
import { REPEAT, rightOf } from './mix.mjs';
import { judgeTrend, trendOf } from './trend.mjs';

/** @typedef {{ claim: string, holds: boolean, says: string }} Check */
/** @typedef {import('./sampler.mjs').GatewaySample} GatewaySample */

/**
 * Growth an hour that counts as none. 1,000 requests a second are 3,600,000 an hour: 30 MB are nine bytes a request, less
 * than anything that is kept for each.
 * How many connections there are is up to callers and to how long the last fault made them wait: of those it is judged that none
 * is kept that the other side has left.
 * @type {{ measure: keyof GatewaySample, name: string, unit: string, tolerated: number }[]}
 */
const MEASURES = [
  { measure: 'rssMb', name: 'RSS', unit: 'MB', tolerated: 30 },
  { measure: 'heapMb', name: 'heap', unit: 'MB', tolerated: 15 },
  { measure: 'externalMb', name: 'external memory', unit: 'MB', tolerated: 15 },
  { measure: 'handles', name: 'handles besides connections of callers', unit: '', tolerated: 60 },
  { measure: 'otherDescriptors', name: 'descriptors besides connections', unit: '', tolerated: 60 },
];
/** Connections in more than half of the samples. A single sample may show many whose end the gateway is about to notice. */
const MOST_ABANDONED = 10;
/** In less, what grows is what is warm at last; and a trend has too few points to be sure of. */
const TELLING_SECONDS = 20 * 60;

/** Bounds of latency: wide enough for other load on the machine, narrow enough to find a drift. */
const MEDIAN = { factor: 1.25, addMs: 0.5 };
const P99 = { factor: 1.5, addMs: 5 };
export const TIMED = ['hit', 'not modified', 'pass-through', 'rejection'];

/** @param {readonly import('./sampler.mjs').Sample[]} samples @param {number} seconds */
export function trendsOf(samples, seconds) {
  // In the first cycle, what grows is what is warm at last.
  const settled = samples.filter((sample) => sample.settled && sample.at >= cycleOf(seconds));
  const count = samples[0]?.gateways.length ?? 0;
  return Array.from({ length: count }, (_, gateway) =>
    MEASURES.map(({ measure, ...about }) => {
      const trend = trendOf(settled.map(({ at, gateways }) => ({ at, value: Number(gateways[gateway]?.[measure]) })));
      return { gateway: gateway + 1, ...about, ...trend, finding: judgeTrend(trend, about.tolerated) };
    }),
  ).flat();
}

/** @param {readonly import('./sampler.mjs').Sample[]} samples @returns {Check[]} */
export function connectionsOf(samples) {
  const settled = samples.filter((sample) => sample.settled);
  return (samples[0]?.gateways ?? []).map((_, gateway) => {
    const sorted = (/** @type {'abandoned' | 'upstream'} */ measure) =>
      settled.map(({ gateways }) => gateways[gateway]?.[measure] ?? 0).sort((a, b) => a - b);
    const [left, upstream] = [sorted('abandoned'), sorted('upstream').at(-1) ?? 0];
    const usual = left[Math.floor(left.length / 2)] ?? 0;
    return {
      claim: `gateway ${gateway + 1}: in calm times no connection is kept that the other side has left, none upstream beyond the limit`,
      holds: usual <= MOST_ABANDONED && upstream <= MOST_UPSTREAM,
      says: `in ${settled.length} looks ${usual} by the median, at most ${left.at(-1) ?? 0}; at most ${upstream} upstream of ${MOST_UPSTREAM}`,
    };
  });
}

/**
 * @param {import('./log.mjs').Log} log @param {readonly import('./faults.mjs').Happening[]} schedule @param {number} seconds
 * @param {readonly import('./sampler.mjs').Sample[]} samples
 */
export function latenciesOf(log, schedule, seconds, samples) {
  // Garbage was collected on our demand: the stop is not the gateway's own.
  const stopped = new Set(samples.filter(({ settled }) => settled).map(({ at }) => Math.floor(at / WINDOW_SECONDS)));
  const calmIn = (/** @type {number} */ from, /** @type {number} */ to) =>
    together(log, (index) => {
      const [begins, ends] = [index * WINDOW_SECONDS, (index + 1) * WINDOW_SECONDS];
      return begins >= from && ends <= to && isCalm(schedule, begins, ends) && !stopped.has(index);
    });
  const [first, last] = [calmIn(0, seconds / 3), calmIn((seconds * 2) / 3, seconds)];
  return TIMED.map((kind) => {
    const [was, is] = [first.get(kind)?.latencies, last.get(kind)?.latencies];
    const quantile = (/** @type {typeof was} */ of, /** @type {number} */ part) => of?.quantile(part) ?? null;
    const [p50, p99] = [0.5, 0.99].map((part) => ({ first: quantile(was, part), last: quantile(is, part) }));
    return { kind, counts: [was?.count ?? 0, is?.count ?? 0], p50: p50 ?? NONE, p99: p99 ?? NONE };
  });
}
const NONE = { first: null, last: null };

/** @param {{ first: number | null, last: number | null }} pair @param {{ factor: number, addMs: number }} limit */
const holdsFor = ({ first, last }, { factor, addMs }) =>
  first !== null && last !== null && last <= first * factor + addMs;

/** Outcomes that nothing explains. @param {import('./log.mjs').Log} log @param {readonly import('./faults.mjs').Happening[]} schedule */
export function unexplained(log, schedule) {
  /** @type {Record<string, number>} */
  const found = {};
  const note = (/** @type {string} */ what, /** @type {number} */ count) => {
    found[what] = (found[what] ?? 0) + count;
  };
  for (let index = 0; index < log.size(); index++) {
    const calm = isCalm(schedule, index * WINDOW_SECONDS, (index + 1) * WINDOW_SECONDS);
    for (const { kind, counts } of log.window(index).values()) {
      for (const [outcome, count] of counts) {
        // No gateway ends in a soak: a connection that breaks is wrong whatever else goes on.
        if (outcome.startsWith('broken') || (calm && !rightOf(kind).includes(outcome)))
          note(`${kind} ${outcome}`, count);
      }
    }
  }
  return found;
}

/**
 * @typedef {object} Course
 * @property {number} seconds
 * @property {number} ceiling
 * @property {readonly import('./faults.mjs').Happening[]} schedule
 * @property {import('./log.mjs').Log} log
 * @property {readonly import('./sampler.mjs').Sample[]} samples
 * @property {readonly string[]} sampleFailures
 * @property {{ stats: import('../../src/simulator/record.ts').Stats, writes: number, twice: { first: number, second: number }[], unseen: number }} upstream
 * @property {Map<string, number>[]} after what the gateways count at the end
 * @property {readonly { from: number, to: number }[]} forgotten when Redis lost its memory, milliseconds of the epoch
 * @property {readonly (number | null)[]} exits
 * @property {Readonly<Record<string, number>>} said warnings and errors of the gateways
 */

/** From the claim of a key, which a killed Redis forgets, to the arrival upstream: a wait for a slot of 5 s, and how long Redis is waited for. */
const CLAIMED_BEFORE_MS = 6_000;

/** @param {Course} course @returns {Check[]} */
function accounts({ log, schedule, after, upstream, forgotten, exits, sampleFailures, said }) {
  const errors = Object.keys(said).filter((line) => !line.startsWith('warn'));
  const { begun, ended, wrong } = log.counts();
  const all = together(log, () => true);
  const aborted = [...all.values()].reduce((sum, { counts }) => sum + (counts.get('aborted') ?? 0), 0);
  const of = (/** @type {string} */ name) => after.reduce((sum, values) => sum + (values.get(name) ?? 0), 0);
  const counted = of('patchgate_http_requests_total');
  const attempts = of('patchgate_upstream_requests_total') + of('patchgate_credential_refreshes_total');
  // An attempt without a response may have arrived or not.
  const unanswered = after.reduce((sum, values) => sum + unansweredIn(values), 0);
  const { arrived } = upstream.stats;
  const strange = unexplained(log, schedule);
  const lost = (/** @type {{ first: number, second: number }} */ { first, second }) =>
    forgotten.some(({ from, to }) => first <= Math.max(to, from + CLAIMED_BEFORE_MS) && second >= from);
  const twice = upstream.twice.filter((each) => !lost(each)).length;
  // A repeat that was executed again, because its key was forgotten, has the response of its own attempt.
  const inexcusable = Object.entries(wrong).filter(
    ([what, count]) => what !== wrongResponse(REPEAT.kind) || count > upstream.twice.length - twice,
  );
  return [
    { claim: 'each request has one outcome', holds: begun === ended, says: `${begun} sent, ${ended} ended` },
    {
      claim: 'the gateways have counted them all',
      holds: counted <= begun && counted >= begun - aborted,
      says: `${counted} counted of ${begun}, of which ${aborted} left early`,
    },
    {
      claim: 'in calm times each outcome is the right one, and no connection ever breaks',
      holds: Object.keys(strange).length === 0,
      says: Object.keys(strange).length === 0 ? 'no exception' : JSON.stringify(strange),
    },
    {
      claim: 'each response is that of its own request',
      holds: inexcusable.length === 0,
      says: inexcusable.length === 0 ? 'no exception' : JSON.stringify(Object.fromEntries(inexcusable)),
    },
    {
      claim: 'what the gateways say they sent is what arrived',
      holds: upstream.unseen === 0 && arrived <= attempts && arrived >= attempts - unanswered,
      says: `${attempts} attempts, ${unanswered} of them without a response; ${arrived} arrived`,
    },
    {
      claim: 'no write is carried out twice',
      holds: twice === 0,
      says: `${upstream.writes} writes; ${twice} twice, and ${upstream.twice.length - twice} whose key a killed Redis forgot`,
    },
    {
      claim: 'nothing is left at the end',
      holds: of('patchgate_http_requests_in_flight') === 0 && of('patchgate_quota_waiting') === 0,
      says: `${of('patchgate_http_requests_in_flight')} in flight, ${of('patchgate_quota_waiting')} waiting`,
    },
    {
      claim: 'no gateway has logged an error',
      holds: errors.length === 0,
      says: errors.length === 0 ? 'no exception' : errors.join('; '),
    },
    { claim: 'each gateway ends with 0', holds: exits.every((code) => code === 0), says: exits.join(', ') },
    {
      claim: 'each sample was taken',
      holds: sampleFailures.length === 0,
      says: sampleFailures.length === 0 ? 'no exception' : sampleFailures.slice(0, 3).join('; '),
    },
  ];
}

/** @param {Map<string, number>} values */
function unansweredIn(values) {
  let sum = 0;
  for (const [series, value] of values) {
    if (series.startsWith('patchgate_upstream_requests_total{') && !/status="\d+"/.test(series)) sum += value;
  }
  return sum;
}

/** @param {Course} course */
export function verdictOf(course) {
  const { seconds, ceiling, schedule, log, samples, upstream } = course;
  const trends = trendsOf(samples, seconds);
  const latencies = latenciesOf(log, schedule, seconds, samples);
  const { greatestIn60s, throttled } = upstream.stats;
  const telling = seconds >= TELLING_SECONDS;
  const unjudged = telling ? '' : ' (not judged: too short a run)';
  /** @type {Check[]} */
  const checks = [
    ...accounts(course),
    {
      claim: 'never above the ceiling in any 60 s, logins and retries included',
      holds: greatestIn60s <= ceiling && throttled === 0,
      says: `at most ${greatestIn60s} of ${ceiling}; ${throttled} upstream 429s`,
    },
    ...connectionsOf(samples),
    ...trends.map(({ gateway, name, unit, perHour, error, tolerated, finding }) => ({
      claim: `gateway ${gateway}: ${name} does not grow`,
      holds: finding === 'flat' || !telling,
      says:
        perHour === undefined || error === undefined
          ? `${finding}: too few samples`
          : `${finding}: ${perHour.toFixed(1)} ± ${error.toFixed(1)} ${unit} an hour, tolerated ${tolerated}${unjudged}`,
    })),
    ...latencies.map(({ kind, p50, p99 }) => ({
      claim: `${kind}: the last third is as fast as the first`,
      holds: (holdsFor(p50, MEDIAN) && holdsFor(p99, P99)) || !telling,
      says: `p50 ${ms(p50.first)} → ${ms(p50.last)}, p99 ${ms(p99.first)} → ${ms(p99.last)} ms${unjudged}`,
    })),
  ];
  return { checks, trends, latencies, holds: checks.every(({ holds }) => holds) };
}

/** @param {number | null} value */
export const ms = (value) => (value === null ? '–' : value.toFixed(value < 10 ? 2 : 0));
