// What the gateway is to reach, and whether it does: computed from what was measured, in no row by hand.
import { median, ratios } from './statistics.mjs';

/**
 * @typedef {import('./rounds.mjs').Measured} Measured
 * @typedef {{ work: string, target: string, measured: string, met: boolean | null }} Row null: not measured in this run
 * @typedef {{ kinds: Partial<Record<string, Measured[]>>, streams: readonly import('./stream.mjs').Streamed[] }} Speeds
 * @typedef {{ goodput: number, throttled: number } | null} Goodput the worst of three replicas with jittery latency
 * @typedef {readonly { tenants: number, askers: number, rate: number, ratio: number }[]} Decisions
 */

const MIB = 1024 * 1024;
const IDLE_MIB = 150;
const STREAMED_MIB = 40;
/** A flood that is refused costs Redis nothing but a look now and then. */
const HARDLY_EVER = 0.02;
/** Flat: what a thousand times the tenants may cost. */
const FLAT = 0.8;

/**
 * @param {Speeds} speeds @param {{ goodput: Goodput, decisions: Decisions }} others from the page: they have runs of their own
 * @returns {Row[]}
 */
export function targetsOf(speeds, { goodput, decisions }) {
  const at = (/** @type {string} */ kind, /** @type {string} */ id) =>
    speeds.kinds[kind]?.find((each) => each.id === id);
  const { rows: ratioRows } = ratioTargets(at);
  return [
    ...ratioRows,
    latencyRow(at),
    tailRow(at),
    ...refusalRows(at),
    goodputRow(goodput),
    decisionRow(decisions, 1, 'one asks'),
    decisionRow(decisions, 16, '16 ask together'),
    ...processRows(at, speeds),
  ];
}

/** @typedef {(kind: string, id: string) => Measured | undefined} At */

/** @param {At} at */
function ratioTargets(at) {
  /** @type {[work: string, kind: string, ours: string, theirs: string, what: 'rate' | 'cpuMicros', bound: number][]} */
  const wanted = [
    ['cached hit, key checked, no Redis on the way', 'hit', 'gateway', 'raw', 'rate', 0.9],
    ['cached hit', 'hit', 'gateway', 'nginx', 'rate', 0.8],
    ['pass-through with everything, embedded state', 'pass', 'gateway', 'fastify', 'rate', 1.3],
    ['pass-through with everything, embedded state', 'pass', 'gateway', 'raw-proxy', 'rate', 0.9],
    ['pass-through with the quota in Redis', 'pass', 'gateway-redis', 'fastify', 'rate', 1],
    ['CPU of a cached hit', 'hit', 'gateway', 'raw', 'cpuMicros', 1.15],
    ['CPU of a pass-through', 'pass', 'gateway', 'raw-proxy', 'cpuMicros', 1.25],
  ];
  const rows = wanted.map(([work, kind, ours, theirs, what, bound]) => {
    const [a, b] = [at(kind, ours), at(kind, theirs)];
    const sign = what === 'rate' ? '≥' : '≤';
    const target = `${sign} ${bound.toFixed(2)} × ${b?.name ?? theirs}`;
    if (a === undefined || b === undefined) return unmeasured(work, target);
    const { median: middle, least, most } = ratios(valuesOf(a, what), valuesOf(b, what));
    const measured = `${middle.toFixed(2)} (${least.toFixed(2)}–${most.toFixed(2)})`;
    return { work, target, measured, met: what === 'rate' ? middle >= bound : middle <= bound };
  });
  return { rows };
}

const valuesOf = (/** @type {Measured} */ { rounds }, /** @type {'rate' | 'cpuMicros'} */ what) =>
  rounds.map((each) => each[what]);
const rateOf = (/** @type {Measured} */ each) => median(valuesOf(each, 'rate'));
const unmeasured = (/** @type {string} */ work, /** @type {string} */ target) => ({
  work,
  target,
  measured: 'not in this run',
  met: null,
});

/** @param {At} at @returns {Row} */
function latencyRow(at) {
  const [work, target] = ['added latency at 1,500 a second, embedded state', 'p50 < 0.2 ms above nginx'];
  const [ours, nginx] = [at('pass', 'gateway'), at('pass', 'nginx')].map((each) => each?.latency.map(({ p50 }) => p50));
  if (!ours?.length || !nginx?.length) return unmeasured(work, target);
  const added = median(ours) - median(nginx);
  return { work, target, measured: `${added.toFixed(3)} ms`, met: added < 0.2 };
}

/** @param {At} at @returns {Row} */
function tailRow(at) {
  const [work, target] = ['the same', 'p99 no worse than fastify'];
  const [ours, theirs] = [at('pass', 'gateway'), at('pass', 'fastify')].map((each) =>
    each?.latency.map(({ p99 }) => p99),
  );
  if (!ours?.length || !theirs?.length) return unmeasured(work, target);
  const [a, b] = [median(ours), median(theirs)];
  return { work, target, measured: `${a.toFixed(2)} ms beside ${b.toFixed(2)} ms`, met: a <= b };
}

/** @param {At} at @returns {Row[]} */
function refusalRows(at) {
  const first = ['refusals', '≥ cached hits a second'];
  const second = ['a refused flood', 'asks Redis nothing per request'];
  const [refused, hit, shared] = [at('refused', 'gateway'), at('hit', 'gateway'), at('refused', 'gateway-redis')];
  /** @param {string[]} row @returns {Row} */
  const missing = ([work = '', target = '']) => unmeasured(work, target);
  const commands = shared?.rounds.map(({ redisCommands }) => redisCommands ?? 0);
  return [
    refused === undefined || hit === undefined
      ? missing(first)
      : {
          ...{ work: String(first[0]), target: String(first[1]) },
          measured: `${(rateOf(refused) / rateOf(hit)).toFixed(2)} × them`,
          met: rateOf(refused) >= rateOf(hit),
        },
    !commands?.length
      ? missing(second)
      : {
          ...{ work: String(second[0]), target: String(second[1]) },
          measured: `${median(commands).toFixed(4)} commands a request`,
          met: median(commands) <= HARDLY_EVER,
        },
  ];
}

/** @param {Goodput} goodput @returns {Row} */
function goodputRow(goodput) {
  const [work, target] = ['goodput, 3 replicas, jittery latency, saturated', '≥ 0.985 × ceiling, no 429 from upstream'];
  if (goodput === null) return unmeasured(work, target);
  const measured = `${goodput.goodput.toFixed(3)} × ceiling, ${goodput.throttled} (below)`;
  return { work, target, measured, met: goodput.goodput >= 0.985 && goodput.throttled === 0 };
}

/** @param {Decisions} all @param {number} askers @param {string} who @returns {Row} */
function decisionRow(all, askers, who) {
  const decisions = all.filter((each) => each.askers === askers);
  const [work, target] = [`decision script, ${who}`, '≥ 0.5 × an empty EVALSHA; flat from 10 to 10,000 tenants'];
  const [few, many] = [
    decisions.find(({ tenants }) => tenants === 10),
    decisions.find(({ tenants }) => tenants === 10_000),
  ];
  if (few === undefined || many === undefined) return unmeasured(work, target);
  const ratio = Math.min(few.ratio, many.ratio);
  const kept = many.rate / few.rate;
  const measured = `${ratio.toFixed(2)} ×; at 10,000 tenants ${kept.toFixed(2)} of the rate at 10 (below)`;
  return { work, target, measured, met: ratio >= 0.5 && kept >= FLAT };
}

/** @param {At} at @param {Speeds} speeds @returns {Row[]} */
function processRows(at, { kinds, streams }) {
  const everywhere = Object.keys(kinds).flatMap((kind) => at(kind, 'gateway') ?? []);
  const streamed = streams.find(({ id }) => id === 'gateway');
  const starts = [...everywhere, ...(streamed ? [streamed] : [])].map(({ startMs }) => startMs);
  const idle = [...everywhere, ...(streamed ? [streamed] : [])].map(({ idleBytes }) => idleBytes);
  const [memory, stream, start] = [
    `< ${IDLE_MIB} MiB RSS`,
    `adds < ${STREAMED_MIB} MiB to that`,
    '< 1 s from exec to ready',
  ];
  /** @type {Row[]} */
  const rows = [];
  if (idle.length === 0) rows.push(unmeasured('memory, idle', memory));
  else
    rows.push({
      work: 'memory, idle',
      target: memory,
      measured: mib(median(idle)),
      met: median(idle) < IDLE_MIB * MIB,
    });
  if (streamed === undefined) rows.push(unmeasured('memory, 1 GiB streamed', stream));
  else {
    const added = median(streamed.rounds.map(({ peakBytes }) => peakBytes)) - streamed.idleBytes;
    rows.push({
      work: 'memory, 1 GiB streamed',
      target: stream,
      measured: `adds ${mib(added)}`,
      met: added < STREAMED_MIB * MIB,
    });
  }
  rows.push(unmeasured('memory, 24 h of load', 'no growth'));
  if (starts.length === 0) rows.push(unmeasured('start', start));
  else
    rows.push({
      work: 'start',
      target: start,
      measured: `${(median(starts) / 1_000).toFixed(2)} s`,
      met: median(starts) < 1_000,
    });
  return rows;
}

const mib = (/** @type {number} */ bytes) => `${(bytes / MIB).toFixed(0)} MiB`;
