// The dashboard as a page: panels where its gridPos puts them, titles, numbers, bars, legends.
import { chart } from './chart.mjs';
import { lastOf } from './data.mjs';
import { escaped, formatted, thresholdColour } from './format.mjs';

/** @typedef {import('./data.mjs').Drawn} Drawn */
/** @typedef {import('./data.mjs').Range} Range */
/** @typedef {{ panel: any, series: Drawn[] }} Filled */

export const WIDTH = 1200;
const MARGIN = 14;
const COLUMN = (WIDTH - 2 * MARGIN) / 24;
const STEP = 31;
const GAP = 7;
const HEAD = 52;

const STYLE = `
* { box-sizing: border-box; margin: 0; }
body { width: ${WIDTH}px; background: #111217; color: #ccccdc; font: 12px "DejaVu Sans", sans-serif; position: relative; }
header { position: absolute; left: ${MARGIN}px; right: ${MARGIN}px; top: 14px; display: flex; gap: 16px; align-items: baseline; }
header b { font-size: 17px; color: #fff; } header span { color: #8e8e9c; } header .time { margin-left: auto; }
.row { position: absolute; font-size: 14px; font-weight: bold; color: #e4e4ee; padding: 9px 2px 0; }
.panel { position: absolute; background: #181b1f; border: 1px solid #2a2d33; border-radius: 3px; padding: 7px 9px; overflow: hidden; display: flex; flex-direction: column; }
h2 { font-size: 12px; font-weight: bold; color: #d8d8e4; margin-bottom: 5px; white-space: nowrap; }
.stat { flex: 1; display: flex; align-items: center; justify-content: center; gap: 16px; text-align: center; z-index: 1; }
.stat b { display: block; line-height: 1.15; white-space: nowrap; } .stat span { color: #9a9aa8; font-size: 11px; }
.spark { position: absolute; left: 0; bottom: 0; }
.bar { margin-top: 10px; } .bar div { height: 24px; background: #24272d; border-radius: 2px; margin-top: 4px; } .bar p { display: flex; justify-content: space-between; font-size: 13px; }
.bar i { display: block; height: 100%; border-radius: 2px; opacity: 0.75; }
.legend { display: flex; flex-wrap: wrap; gap: 1px 12px; font-size: 11px; color: #b4b4c2; max-height: 44px; overflow: hidden; }
.legend i, td i { display: inline-block; width: 12px; height: 4px; border-radius: 2px; margin-right: 5px; vertical-align: 2px; }
table { width: 100%; font-size: 11px; border-collapse: collapse; color: #b4b4c2; } td, th { padding: 0; text-align: right; font-weight: normal; line-height: 15px; } td:first-child { text-align: left; } th { color: #6d9cf2; }
svg text { fill: #8e8e9c; font-size: 10px; } .grid { stroke: #24272d; } svg { display: block; }
`;

/** @param {{ dashboard: any, filled: Filled[], range: Range, marks: { at: number, colour: string }[], about: string }} of */
export function page({ dashboard, filled, range, marks, about }) {
  const bottom = Math.max(...dashboard.panels.map((/** @type {any} */ { gridPos }) => gridPos.y + gridPos.h));
  const height = HEAD + bottom * STEP + MARGIN;
  const hours = [range.from, range.to].map((at) => new Date(at * 1000).toISOString().slice(11, 16)).join(' to ');
  const rows = dashboard.panels
    .filter((/** @type {any} */ { type }) => type === 'row')
    .map((/** @type {any} */ panel) => `<div class="row" style="${placed(panel).style}">${escaped(panel.title)}</div>`);
  const panels = filled.map((each) => panelOf(each, range, marks));
  return {
    height,
    html: `<!doctype html><meta charset="utf-8"><style>${STYLE}body { height: ${height}px; }</style>
<header><b>${escaped(dashboard.title)}</b><span>${escaped(about)}</span><span class="time">${hours} UTC</span></header>
${rows.join('\n')}\n${panels.join('\n')}`,
  };
}

/** @param {any} panel */
function placed({ gridPos: { x, y, w, h } }) {
  const [left, top] = [MARGIN + x * COLUMN, HEAD + y * STEP];
  const [width, height] = [w * COLUMN - (x + w < 24 ? GAP : 0), h * STEP - GAP];
  return { width, height, style: `left: ${left}px; top: ${top}px; width: ${width}px; height: ${height}px` };
}

/** @param {Filled} of @param {Range} range @param {{ at: number, colour: string }[]} marks */
function panelOf({ panel, series }, range, marks) {
  const { width, height, style } = placed(panel);
  const body = () => {
    switch (panel.type) {
      case 'stat':
        return stat(panel, series, width, height);
      case 'bargauge':
        return bars(panel, series);
      case 'timeseries': {
        const below = legend(panel, series, width - 20);
        const room = { width: Math.round(width - 20), height: Math.round(height - 38 - below.height) };
        return `${chart({ panel, series, range, marks, ...room })}${below.html}`;
      }
      default:
        return listed(panel, series);
    }
  };
  return `<section class="panel" style="${style}"><h2>${escaped(panel.title)}</h2>${body()}</section>`;
}

/** @param {any} panel @param {Drawn[]} series @param {number} width @param {number} height */
function stat(panel, series, width, height) {
  const { defaults } = panel.fieldConfig;
  const big = Math.min(height > 160 ? 40 : 30, (width / Math.max(1, series.length)) * 0.2 + 4);
  const numbers = series.map((each) => {
    const value = lastOf(each);
    const text = value === null ? (defaults.noValue ?? 'No data') : formatted(value, defaults);
    const colour = each.hasOwnColour ? each.colour : thresholdColour(value ?? 0, defaults.thresholds.steps);
    return `<div><b style="color: ${colour}; font-size: ${big}px">${escaped(text)}</b>${series.length > 1 ? `<span>${escaped(each.name)}</span>` : ''}</div>`;
  });
  if (series.length === 0)
    numbers.push(`<div><b style="font-size: ${big * 0.6}px">${escaped(defaults.noValue ?? 'No data')}</b></div>`);
  const [only] = series;
  const spark = panel.options.graphMode === 'area' && only !== undefined ? sparkline(only, defaults, width - 2) : '';
  return `<div class="stat">${numbers.join('')}</div>${spark}`;
}

/** Tables and timelines in short: the last value of each series. @param {any} panel @param {Drawn[]} series */
function listed({ fieldConfig: { defaults } }, series) {
  const cells = (/** @type {Drawn} */ each) => [each.name, formatted(lastOf(each) ?? 0, defaults)].map(escaped);
  return `<table>${series.map((each) => `<tr><td>${cells(each).join('</td><td>')}</td></tr>`).join('')}</table>`;
}

/** @param {Drawn} series @param {any} defaults @param {number} width */
function sparkline(series, defaults, width) {
  const most = Math.max(...series.values.map((value) => value ?? 0)) || 1;
  const colour = thresholdColour(lastOf(series) ?? 0, defaults.thresholds.steps);
  const step = width / Math.max(1, series.values.length - 1);
  const line = series.values
    .map((value, i) => `${(i * step).toFixed(1)},${(29 - ((value ?? 0) / most) * 26).toFixed(1)}`)
    .join(' ');
  return `<svg class="spark" width="${width}" height="30"><polygon points="0,30 ${line} ${width},30" fill="${colour}" opacity="0.18"/><polyline points="${line}" fill="none" stroke="${colour}" opacity="0.7"/></svg>`;
}

/** @param {any} panel @param {Drawn[]} series */
function bars(panel, series) {
  const { defaults } = panel.fieldConfig;
  return series
    .map((each) => {
      const value = lastOf(each) ?? 0;
      const colour = thresholdColour(value, defaults.thresholds.steps);
      const part = Math.min(100, (value / (defaults.max ?? (value || 1))) * 100);
      return `<div class="bar"><p><span>${escaped(each.name)}</span><b style="color: ${colour}">${escaped(formatted(value, defaults))}</b></p><div><i style="width: ${part.toFixed(1)}%; background: ${colour}"></i></div></div>`;
    })
    .join('');
}

/** @param {any} panel @param {Drawn[]} series @param {number} width */
function legend(panel, series, width) {
  const { defaults } = panel.fieldConfig;
  const swatch = (/** @type {Drawn} */ { colour }) => `<i style="background: ${colour}"></i>`;
  const { displayMode, calcs } = panel.options.legend;
  if (displayMode === 'list') {
    const characters = series.reduce((sum, { name }) => sum + name.length + 5, 0);
    const lines = Math.min(3, Math.max(1, Math.ceil((characters * 6.6) / width)));
    const items = series.map((each) => `<span>${swatch(each)}${escaped(each.name)}</span>`);
    return { height: lines * 15, html: `<div class="legend">${items.join('')}</div>` };
  }
  const heads = /** @type {Record<string, string>} */ ({ mean: 'Mean', lastNotNull: 'Last', max: 'Max' });
  const rows = series.map((each) => {
    const cells = calcs.map(
      (/** @type {string} */ calc) => `<td>${escaped(formatted(calculated(each, calc), defaults))}</td>`,
    );
    return `<tr><td>${swatch(each)}${escaped(each.name)}</td>${cells.join('')}</tr>`;
  });
  const head = `<tr><th></th>${calcs.map((/** @type {string} */ calc) => `<th>${heads[calc]}</th>`).join('')}</tr>`;
  return { height: 15 * (rows.length + 1), html: `<table>${head}${rows.join('')}</table>` };
}

/** @param {Drawn} series @param {string} calc */
function calculated(series, calc) {
  const known = series.values.filter((value) => value !== null);
  if (calc === 'lastNotNull') return lastOf(series) ?? 0;
  if (calc === 'max') return Math.max(0, ...known);
  return known.reduce((sum, value) => sum + value, 0) / Math.max(1, known.length);
}
