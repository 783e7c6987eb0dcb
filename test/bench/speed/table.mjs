// Formats a kind of work as a Markdown table, ratios first.
import { ratios, spread } from './statistics.mjs';

/** @typedef {import('./rounds.mjs').Measured} Measured */

/** Contestants that the others are compared with, by preference: an older build if there is one, then raw Node. */
const REFERENCES = ['gateway-old', 'raw', 'raw-proxy', 'nginx'];

/** @param {readonly Measured[]} all */
export const referenceOf = (all) =>
  REFERENCES.map((wanted) => all.find(({ id }) => id === wanted)).find((each) => each !== undefined) ?? all[0];

/** @param {readonly Measured[]} all */
export function tableOf(all) {
  const reference = referenceOf(all);
  if (reference === undefined) return '';
  const of = (/** @type {Measured} */ { rounds }, /** @type {'rate' | 'cpuMicros' | 'busy'} */ what) =>
    rounds.map((each) => each[what]);
  const rows = all.map((each) => {
    const rate = ratios(of(each, 'rate'), of(reference, 'rate'));
    const cpu = ratios(of(each, 'cpuMicros'), of(reference, 'cpuMicros'));
    const perSecond = spread(of(each, 'rate'));
    const micros = spread(of(each, 'cpuMicros'));
    const cells = [
      each.name,
      ranged(rate, 2),
      ranged(cpu, 2),
      ranged(perSecond, 0),
      ranged(micros, 1),
      `${(spread(of(each, 'busy')).median * 100).toFixed(0)} %`,
      mib(each.endBytes),
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `| | × ${reference.name} | CPU × the same | requests a second | µs CPU a request | core used | RSS MiB |`,
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

/** @param {import('./statistics.mjs').Spread} value @param {number} digits */
const ranged = ({ median, least, most }, digits) =>
  `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;

const mib = (/** @type {number} */ bytes) => (bytes / 1024 / 1024).toFixed(0);
