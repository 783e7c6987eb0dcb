// Draws a panel over time, as SVG: lines, areas, stacked or in percent, or columns; axes; marks.
import { timesOf } from './data.mjs';
import { escaped, formatted } from './format.mjs';

/** @typedef {import('./data.mjs').Drawn} Drawn */
/** @typedef {import('./data.mjs').Range} Range */
/** @typedef {{ x: (i: number) => number, y: (value: number) => number }} Scale */

const LEFT = 52;
const BOTTOM = 18;
const TOP = 6;
const RIGHT = 8;

/**
 * @param {{ panel: any, series: Drawn[], range: Range, marks: { at: number, colour: string }[], width: number, height: number }} of
 */
export function chart({ panel, series, range, marks, width, height }) {
  const { custom, unit, decimals, max } = panel.fieldConfig.defaults;
  const percent = custom.stacking.mode === 'percent';
  const columns = custom.drawStyle === 'bars';
  const layers =
    percent || custom.stacking.mode === 'normal'
      ? stacked(series, percent)
      : series.map((each) => ({ ...each, base: null }));
  const top = percent
    ? 1
    : (max ?? niceTop(Math.max(0, ...layers.flatMap(({ values }) => values.map((value) => value ?? 0)))));
  const count = timesOf(range).length;
  const inner = { width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
  const x = (/** @type {number} */ i) => LEFT + (i / Math.max(1, count - 1)) * inner.width;
  const y = (/** @type {number} */ value) => TOP + inner.height * (1 - Math.min(1, value / top));
  const field = percent ? { unit: 'percentunit' } : { unit, decimals };
  const drawn = layers.map((layer) =>
    columns ? columnsOf(layer, { x, y }, inner.width / count) : lineOf(layer, { x, y }, custom.fillOpacity / 100),
  );
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(part * top).toFixed(1);
    return `<line x1="${LEFT}" x2="${width - RIGHT}" y1="${at}" y2="${at}" class="grid"/><text x="${LEFT - 6}" y="${Number(at) + 4}" text-anchor="end">${escaped(formatted(part * top, field))}</text>`;
  });
  const lines = marks.map(({ at, colour }) => {
    const place = x((at - range.from) / range.step).toFixed(1);
    return `<line x1="${place}" x2="${place}" y1="${TOP}" y2="${height - BOTTOM}" stroke="${colour}" stroke-dasharray="3 3" opacity="0.8"/>`;
  });
  return `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${ticks.join('')}${minutes(range, x, height)}${drawn.join('')}${lines.join('')}</svg>`;
}

/** On top of those before it; what is dashed stands by itself. @param {Drawn[]} series @param {boolean} percent */
function stacked(series, percent) {
  const count = series[0]?.values.length ?? 0;
  const parts = series.filter(({ dashed }) => !dashed);
  const totals = Array.from({ length: count }, (_, i) => parts.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  let below = /** @type {number[]} */ (new Array(count).fill(0));
  return series.map((each) => {
    if (each.dashed) return { ...each, base: null };
    const base = below;
    below = base.map((under, i) => {
      const value = each.values[i] ?? 0;
      return under + (percent ? (totals[i] ? value / /** @type {number} */ (totals[i]) : 0) : value);
    });
    return { ...each, values: below.map((value, i) => (percent && !totals[i] ? null : value)), base };
  });
}

/** @param {Drawn & { base: number[] | null }} layer @param {Scale} scale @param {number} opacity */
function lineOf({ values, base, colour, dashed }, { x, y }, opacity) {
  const point = (/** @type {number} */ i, /** @type {number} */ value) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`;
  return runsOf(values)
    .map((run) => {
      const line = run.map(([i, value]) => point(i, value)).join(' ');
      const under = run
        .map(([i]) => point(i, base?.[i] ?? 0))
        .reverse()
        .join(' ');
      const area = dashed ? '' : `<polygon points="${line} ${under}" fill="${colour}" opacity="${opacity}"/>`;
      return `${area}<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="1.3"${dashed ? ' stroke-dasharray="8 6"' : ''}/>`;
    })
    .join('');
}

/** @param {Drawn & { base: number[] | null }} layer @param {Scale} scale @param {number} width */
function columnsOf({ values, base, colour }, { x, y }, width) {
  return values
    .map((value, i) => {
      const from = base?.[i] ?? 0;
      if (value === null || value <= from) return '';
      const left = Math.max(LEFT, x(i) - width / 2);
      return `<rect x="${left.toFixed(1)}" y="${y(value).toFixed(1)}" width="${(width * 0.85).toFixed(1)}" height="${(y(from) - y(value)).toFixed(1)}" fill="${colour}" opacity="0.85"/>`;
    })
    .join('');
}

/** Pieces without a gap. @param {(number | null)[]} values */
function runsOf(values) {
  /** @type {[number, number][][]} */
  const runs = [];
  for (const [i, value] of values.entries()) {
    if (value === null) continue;
    const run = runs.at(-1);
    if (run !== undefined && run.at(-1)?.[0] === i - 1) run.push([i, value]);
    else runs.push([[i, value]]);
  }
  return runs;
}

/** The hour of each whole minute, as many as there is room for. @param {Range} range @param {(i: number) => number} x @param {number} height */
function minutes({ from, to, step }, x, height) {
  const every = 60 * Math.max(1, Math.ceil((to - from) / 60 / 6));
  const first = Math.ceil(from / every) * every;
  return Array.from({ length: Math.floor((to - first) / every) + 1 }, (_, i) => first + i * every)
    .map((at) => {
      const place = x((at - from) / step).toFixed(1);
      const hour = new Date(at * 1000).toISOString().slice(11, 16);
      return `<line x1="${place}" x2="${place}" y1="${TOP}" y2="${height - BOTTOM}" class="grid"/><text x="${place}" y="${height - 4}" text-anchor="middle">${hour}</text>`;
    })
    .join('');
}

/** @param {number} most */
function niceTop(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return (
    power *
    /** @type {number} */ (
      [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10].find((step) => most <= step * power * 0.999) ?? 12
    )
  );
}
