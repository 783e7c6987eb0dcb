// The outcome of a soak as the section of docs/soak.md, and as its picture.
import { chart } from './chart.mjs';
import { ms } from './verdict.mjs';

/**
 * @typedef {object} Outcome what a run leaves behind, and all that page and picture are made from
 * @property {string} machine
 * @property {number} seconds
 * @property {number} rate
 * @property {number} sent
 * @property {boolean} holds
 * @property {import('./verdict.mjs').Check[]} checks
 * @property {ReturnType<typeof import('./verdict.mjs').latenciesOf>} latencies
 * @property {readonly import('./faults.mjs').Happening[]} schedule
 * @property {readonly import('./sampler.mjs').Sample[]} samples
 * @property {Record<string, Record<string, number>>} outcomes by kind
 * @property {{ at: number, kinds: Record<string, { p50: number | null, p99: number | null, count: number }>, ends: Record<string, number> }[]} windows
 * @property {Record<string, number>} said warnings and errors of the gateways
 */

const whole = (/** @type {number} */ value) => value.toLocaleString('en-GB');

/** @param {Outcome} outcome */
export function pageOf({ machine, seconds, rate, sent, holds, checks, latencies, outcomes, samples, said }) {
  const generator = Math.max(...samples.map(({ generatorP99Ms }) => generatorP99Ms));
  const rows = Object.entries(outcomes).map(([kind, counts]) => {
    const each = Object.entries(counts).map(([what, count]) => `${what} × ${whole(count)}`);
    return `| ${kind} | ${each.join(', ')} |`;
  });
  return [
    `${Number((seconds / 60).toFixed(1))} minutes at ${whole(rate)} requests a second: ${whole(sent)} requests. **${holds ? 'All of it held.' : 'Not all of it held.'}** ${machine}.`,
    '',
    '| what must hold | | found |',
    '|---|---|---|',
    ...checks.map(({ claim, holds: each, says }) => `| ${claim} | ${each ? 'yes' : '**no**'} | ${says} |`),
    '',
    'Latency from the moment a request was due, without the times of faults:',
    '',
    '| kind | requests, first and last third | p50, ms | p99, ms |',
    '|---|---|---|---|',
    ...latencies.map(
      ({ kind, counts, p50, p99 }) =>
        `| ${kind} | ${counts.map(whole).join(' / ')} | ${ms(p50.first)} / ${ms(p50.last)} | ${ms(p99.first)} / ${ms(p99.last)} |`,
    ),
    '',
    `The generator's own event loop was late by ${ms(generator)} ms at p99 in its worst five seconds; that is in the numbers above.`,
    '',
    'What came of each kind, times of faults included:',
    '',
    '| kind | outcomes |',
    '|---|---|',
    ...rows,
    '',
    "Warnings and errors in the gateways' logs:",
    '',
    '| message | times |',
    '|---|---|',
    ...Object.entries(said).map(([message, count]) => `| \`${message}\` | ${whole(count)} |`),
  ].join('\n');
}

/** @param {Outcome} outcome */
export function pictureOf({ seconds, rate, schedule, samples, windows, machine }) {
  const gateways = samples[0]?.gateways ?? [];
  const settled = samples.filter((sample) => sample.settled);
  /** @param {keyof import('./sampler.mjs').GatewaySample} measure @param {string} name @param {boolean} [dashed] @param {typeof samples} [of] */
  const each = (measure, name, dashed = false, of = samples) =>
    gateways.map((_, i) => ({
      name: `${name}, gateway ${i + 1}`,
      dashed,
      points: of.map((sample) => ({ at: sample.at, value: sample.gateways[i]?.[measure] ?? null })),
    }));
  const timed = (/** @type {string} */ kind, /** @type {'p50' | 'p99'} */ part) => ({
    name: `${kind}, ${part}`,
    dashed: part === 'p50',
    points: windows.map(({ at, kinds }) => ({ at: at + 2.5, value: kinds[kind]?.[part] ?? null })),
  });
  const ends = [...new Set(windows.flatMap((window) => Object.keys(window.ends)))].sort();
  return chart({
    title: `Soak: ${Number((seconds / 60).toFixed(1))} minutes at ${whole(rate)} requests a second, two gateways`,
    about: machine,
    seconds,
    bands: schedule,
    panels: [
      { title: 'Memory', unit: 'MB', lines: [...each('rssMb', 'RSS'), ...each('heapMb', 'heap', true)] },
      {
        title: 'Memory in calm times, after garbage was collected',
        unit: 'MB',
        lines: [...each('rssMb', 'RSS', false, settled), ...each('heapMb', 'heap', true, settled)],
      },
      {
        title: 'Handles, and connections of callers',
        unit: '',
        lines: [...each('handles', 'handles'), ...each('callers', 'callers', true)],
      },
      {
        title: 'Latency from the moment due',
        unit: 'ms',
        log: true,
        lines: ['hit', 'pass-through'].flatMap((kind) => [timed(kind, 'p50'), timed(kind, 'p99')]),
      },
      {
        title: 'Responses a second',
        unit: '',
        lines: ends.map((name) => ({
          name,
          points: windows.map((window) => ({ at: window.at + 2.5, value: (window.ends[name] ?? 0) / 5 })),
        })),
      },
      {
        title: 'In flight, and waiting for a slot',
        unit: '',
        lines: [...each('inFlight', 'in flight'), ...each('waiting', 'waiting', true)],
      },
      {
        title: 'Event loop, p99 of its delay',
        unit: 'ms',
        lines: [
          ...each('loopP99Ms', 'loop'),
          {
            name: 'generator',
            dashed: true,
            points: samples.map(({ at, generatorP99Ms }) => ({ at, value: generatorP99Ms })),
          },
        ],
      },
      {
        title: 'Redis memory',
        unit: 'MB',
        lines: [{ name: 'used_memory', points: samples.map(({ at, redis }) => ({ at, value: redis?.mb ?? null })) }],
      },
    ],
  });
}
