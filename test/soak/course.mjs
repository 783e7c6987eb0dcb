// Runs a soak from the first request to the verdict.
import { cleanUp } from '../chaos/rig.mjs';
import { quotaOf } from './configuration.mjs';
import { letHappen, scheduleOf } from './faults.mjs';
import { createGenerator } from './generator.mjs';
import { createLog, together, WINDOW_SECONDS } from './log.mjs';
import { scrape, startSampling } from './sampler.mjs';
import { openStage } from './stage.mjs';
import { TIMED, verdictOf } from './verdict.mjs';

const GATEWAYS = 2;

/**
 * @param {{ seconds: number, rate: number, machine: string, judgeByCeiling?: number, tell: (line: string) => void }} options
 * @returns {Promise<import('./page.mjs').Outcome>}
 */
export async function soak({ seconds, rate, machine, judgeByCeiling, tell }) {
  const stage = await openStage({ rate, gateways: GATEWAYS });
  const log = createLog();
  const generator = createGenerator({ urls: stage.gateways.map(({ url }) => url), rate, log });
  const schedule = scheduleOf(seconds);
  const sampling = startSampling(stage, generator.seconds, schedule);
  tell(`${seconds / 60} minutes at ${rate} requests a second`);
  const course = Promise.all([generator.run(seconds), letHappen(schedule, seconds, { stage, generator, tell })]);
  await Promise.race([course, stage.died]);
  sampling.stop();
  const after = await Promise.all(stage.gateways.map(({ admin }) => scrape(admin)));
  const upstream = await stage.upstream.ask('report');
  await generator.close();
  const exits = await stage.stop();
  await stage.close();
  cleanUp();

  const said = sum(stage.gateways.map((gateway) => gateway.said));
  const { samples, failures: sampleFailures } = sampling;
  const verdict = verdictOf({
    ...{ seconds, schedule, log, samples, sampleFailures, upstream, after, exits, said },
    ceiling: judgeByCeiling ?? quotaOf(rate).ceiling,
    forgotten: stage.redis.forgotten,
  });
  return {
    ...{ machine, seconds, rate, schedule, samples },
    sent: log.counts().begun,
    ...{ holds: verdict.holds, checks: verdict.checks, latencies: verdict.latencies },
    outcomes: outcomesOf(log),
    windows: Array.from({ length: log.size() }, (_, index) => windowOf(log, index)),
    said,
  };
}

/** @param {import('./log.mjs').Log} log @returns {Record<string, Record<string, number>>} */
function outcomesOf(log) {
  const tallies = [...together(log, () => true).values()].sort((a, b) => b.latencies.count - a.latencies.count);
  return Object.fromEntries(
    tallies.map(({ kind, counts }) => [kind, Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]))]),
  );
}

/** @param {import('./log.mjs').Log} log @param {number} index */
function windowOf(log, index) {
  const window = log.window(index);
  /** @type {Record<string, number>} */
  const ends = {};
  for (const { counts } of window.values()) {
    for (const [outcome, count] of counts) {
      const group = /^\d/.test(outcome) ? `${outcome[0]}xx` : (outcome.split(':', 1)[0] ?? '');
      ends[group] = (ends[group] ?? 0) + count;
    }
  }
  const kinds = TIMED.map((kind) => {
    const latencies = window.get(kind)?.latencies;
    const of = (/** @type {number} */ part) => latencies?.quantile(part) ?? null;
    return [kind, { p50: of(0.5), p99: of(0.99), count: latencies?.count ?? 0 }];
  });
  return { at: index * WINDOW_SECONDS, kinds: Object.fromEntries(kinds), ends };
}

/** @param {readonly Map<string, number>[]} maps @returns {Record<string, number>} */
function sum(maps) {
  /** @type {Record<string, number>} */
  const all = {};
  for (const map of maps) for (const [what, count] of map) all[what] = (all[what] ?? 0) + count;
  return all;
}
