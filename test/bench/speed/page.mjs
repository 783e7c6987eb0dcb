// The results of a run as Markdown for docs/benchmarks.md, and as a chart.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goodputIn, replaced } from '../sections.mjs';
import { chart } from './chart.mjs';
import { HERE } from './contestants/gateway.mjs';
import { RATE } from './rate.mjs';
import { spread } from './statistics.mjs';
import { tableOf } from './table.mjs';
import { targetsOf } from './targets.mjs';
import { WORK } from './work.mjs';

/**
 * @typedef {{
 *   machine: import('./machine.mjs').Machine, rounds: number, seconds: number,
 *   contestants: { id: string, name: string, does: string }[],
 *   kinds: Partial<Record<string, import('./rounds.mjs').Measured[]>>, streams: import('./stream.mjs').Streamed[],
 * }} Results
 */

const PAGE = join(HERE, 'docs/benchmarks.md');
const MIB = 1024 * 1024;
const CHART = 'speed.svg';
/** More than this, and rates and latencies are of a machine that was busy with something else. */
const QUIET = 0.05;

/** @param {Results} results @returns {string} */
export function reportOf(results) {
  const { machine, rounds, seconds, kinds, streams } = results;
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const sections = WORK.filter(({ kind }) => kinds[kind] !== undefined).map(
    ({ kind, title }) => `#### ${title}\n\n${tableOf(kinds[kind] ?? [])}`,
  );
  return [
    wrapped(
      `${machine.date}, ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, Linux ${machine.kernel}, commit ${machine.commit}. ` +
        `${rounds} rounds of up to ${seconds} s each. ${versions.join(', ')}.`,
    ),
    quietness(results),
    `#### Targets\n\n${targetTable(results)}`,
    ...sections,
    ...latencySections(results),
    ...(streams.length > 0 ? [`#### Downloads of 256 MiB, four in a row\n\n${streamTable(streams)}`] : []),
    `#### Processes\n\n${processTable(results)}`,
    `#### Who does what\n\n${results.contestants.map(({ name, does }) => `- ${name}: ${does}.`).join('\n')}`,
  ].join('\n\n');
}

/** @param {Results} results */
function quietness({ kinds }) {
  const shares = Object.values(kinds).flatMap((all) =>
    (all ?? []).flatMap(({ rounds }) => rounds.map(({ others }) => others)),
  );
  if (shares.length === 0) return 'Nothing was measured in rounds.';
  const { median, most } = spread(shares);
  const told = `Of the proxy's core, other programs had ${(median * 100).toFixed(1)} % (median of the rounds; most: ${(most * 100).toFixed(0)} %).`;
  return median <= QUIET
    ? told
    : `${told} **This was no quiet machine: rates and latencies mean nothing here, and the CPU columns little.**`;
}

/** @param {Results} results @returns {string[]} the files */
export function writePage(results) {
  const file = join(HERE, 'docs', CHART);
  writeFileSync(file, chart(results));
  const text = `![Requests a second beside raw Node, by kind of work](${CHART})\n\n${reportOf(results)}`;
  writeFileSync(PAGE, replaced(readFileSync(PAGE, 'utf8'), 'speed', text));
  return [PAGE, file];
}

/** @param {Results} results */
function targetTable(results) {
  const rows = targetsOf(results.kinds, goodputIn(readFileSync(PAGE, 'utf8')));
  const told = (/** @type {boolean | null} */ met) => (met === null ? '–' : met ? 'met' : '**not met**');
  return [
    '| work | target | measured | |',
    '|---|---|---|---|',
    ...rows.map(({ work, target, measured, met }) => `| ${work} | ${target} | ${measured} | ${told(met)} |`),
  ].join('\n');
}

/** @param {Results} results */
function latencySections({ kinds }) {
  return WORK.flatMap(({ kind, title }) => {
    const timed = (kinds[kind] ?? []).filter(({ latency }) => latency.length > 0);
    if (timed.length === 0) return [];
    const rows = timed.map(({ name, latency }) => {
      const of = (/** @type {'p50' | 'p99' | 'p999' | 'cpuMicros'} */ what, /** @type {number} */ digits) =>
        ranged(
          latency.map((each) => each[what]),
          digits,
        );
      const late = latency.reduce((sum, each) => sum + each.late, 0);
      return `| ${name} | ${of('p50', 3)} | ${of('p99', 2)} | ${of('p999', 2)} | ${of('cpuMicros', 0)} | ${late} |`;
    });
    return [
      [
        `#### ${title}, at ${RATE} a second`,
        '',
        '| | p50 ms | p99 ms | p99.9 ms | µs CPU a request | late |',
        '|---|---|---|---|---|---|',
        ...rows,
      ].join('\n'),
    ];
  });
}

/** @param {Results['streams']} streams */
function streamTable(streams) {
  const rows = streams.map(({ name, idleBytes, rounds }) => {
    const speed = ranged(
      rounds.map(({ mibPerSecond }) => mibPerSecond),
      0,
    );
    const cpu = ranged(
      rounds.map(({ cpuMillisPerGib }) => cpuMillisPerGib),
      0,
    );
    const peak = Math.max(...rounds.map(({ peakBytes }) => peakBytes));
    return `| ${name} | ${speed} | ${cpu} | ${(idleBytes / MIB).toFixed(0)} | ${(peak / MIB).toFixed(0)} |`;
  });
  return ['| | MiB a second | ms CPU a GiB | RSS MiB, idle | RSS MiB, most |', '|---|---|---|---|---|', ...rows].join(
    '\n',
  );
}

/** @param {Results} results */
function processTable({ contestants, kinds, streams }) {
  const rows = contestants.flatMap(({ id, name }) => {
    const seen = [...Object.values(kinds).flatMap((all) => all ?? []), ...streams].filter((each) => each.id === id);
    if (seen.length === 0) return [];
    const start = ranged(
      seen.map(({ startMs }) => startMs),
      0,
    );
    const idle = ranged(
      seen.map(({ idleBytes }) => idleBytes / MIB),
      0,
    );
    return [`| ${name} | ${start} | ${idle} | ${seen.length} |`];
  });
  return ['| | ms from exec to ready | RSS MiB, idle | starts |', '|---|---|---|---|', ...rows].join('\n');
}

/** @param {readonly number[]} values @param {number} digits */
function ranged(values, digits) {
  const { median, least, most } = spread(values);
  return `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}

/** Documents have lines of at most 100 characters. @param {string} text */
function wrapped(text) {
  return text.replace(/(?![^\n]{1,100}$)([^\n]{1,100})\s/g, '$1\n');
}
