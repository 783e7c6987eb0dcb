// Values as Grafana writes them, for the units of the dashboards; and colours by Grafana's names.

/** @type {Record<string, (value: number, decimals: number | undefined) => string>} */
const UNITS = {
  short: (value, decimals) => (value >= 10_000 ? `${trimmed(value / 1000, 1)} K` : trimmed(value, decimals ?? 1)),
  reqpm: (value, decimals) => `${trimmed(value, decimals ?? (value < 10 ? 1 : 0))} rpm`,
  percentunit: (value, decimals) => `${trimmed(value * 100, decimals ?? 0)}%`,
  s: (value) => (value >= 1 ? `${trimmed(value, 2)} s` : `${trimmed(value * 1000, value < 0.01 ? 1 : 0)} ms`),
  ops: (value) => `${trimmed(value, 1)} ops/s`,
  bytes: (value) => `${trimmed(value / 2 ** 20, 1)} MiB`,
  dtdurations: (value) =>
    value >= 86_400 ? `${trimmed(value / 86_400, 0)} days` : `${trimmed(value / 60, 0)} minutes`,
};

/** @param {number} value @param {number} decimals */
function trimmed(value, decimals) {
  return String(Number(value.toFixed(decimals)));
}

/** @param {number} value @param {{ unit?: string, decimals?: number }} field */
export function formatted(value, { unit = 'short', decimals }) {
  const format = UNITS[unit];
  if (format === undefined) throw new Error(`the picture does not know the unit ${unit}`);
  return value === 0 && unit === 's' ? '0 s' : format(value, decimals);
}

/** @type {Record<string, string>} */
const NAMED = {
  green: '#73bf69',
  yellow: '#fade2a',
  orange: '#ff9830',
  red: '#f2495c',
  'dark-red': '#c4162a',
  blue: '#5794f2',
  purple: '#b877d9',
};
/** For series without a colour of their own, in order. */
const PALETTE = [
  '#73bf69',
  '#f2cc0c',
  '#8ab8ff',
  '#ff780a',
  '#f2495c',
  '#5794f2',
  '#b877d9',
  '#705da0',
  '#37872d',
  '#fade2a',
];

/** @param {string} name */
export function colour(name) {
  const known = NAMED[name];
  if (known === undefined) throw new Error(`the picture does not know the colour ${name}`);
  return known;
}

/** @param {number} index */
export function paletteColour(index) {
  return PALETTE[index % PALETTE.length] ?? '#ccccdc';
}

/** Colour of the last threshold that the value has reached. @param {number} value @param {{ value: number | null, color: string }[]} steps */
export function thresholdColour(value, steps) {
  const reached = steps.filter((step) => step.value === null || value >= step.value).at(-1);
  return colour(reached?.color ?? 'green');
}

/** @param {string} text */
export function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
