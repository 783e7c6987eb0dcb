// Gets the data of a panel: sends its queries to Prometheus as Grafana does, and applies legends and overrides.
import { colour, paletteColour } from './format.mjs';

/** @typedef {{ from: number, to: number, step: number }} Range seconds */
/**
 * @typedef {object} Drawn a series as it is drawn
 * @property {string} name
 * @property {string} colour
 * @property {boolean} hasOwnColour
 * @property {boolean} dashed a limit: no area, not stacked
 * @property {(number | null)[]} values one for each step of the range; null: nothing
 */

/** @param {Range} range */
export function timesOf({ from, to, step }) {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);
}

/** Four times the interval in deploy/grafana/provisioning: what Grafana takes for so short a time. */
const RATE_INTERVAL = '60s';

/** @param {string} expression @param {Range} range */
export function filledIn(expression, { from, to }) {
  return expression
    .replaceAll('$__rate_interval', RATE_INTERVAL)
    .replaceAll('$__range', `${Math.round(to - from)}s`)
    .replaceAll('$tenant', 'orders|trial')
    .replace(/\$(namespace|job|instance|account)\b/g, '.*');
}

/**
 * @param {Awaited<ReturnType<typeof import('../rig/prometheus.mjs').startPrometheus>>} prometheus
 * @param {any} panel @param {Range} range
 * @returns {Promise<Drawn[]>}
 */
export async function seriesOf(prometheus, panel, range) {
  const times = timesOf(range);
  /** @type {Drawn[]} */
  const all = [];
  for (const target of panel.targets) {
    const query = filledIn(target.expr, range);
    const found = target.instant ? await prometheus.now(query, range.to) : await prometheus.overTime(query, range);
    for (const { metric, values } of found) {
      const name = target.legendFormat.replace(
        /\{\{(\w+)\}\}/g,
        (/** @type {string} */ _, /** @type {string} */ label) => metric[label] ?? '',
      );
      const at = new Map(values.map(([seconds, value]) => [Math.round(seconds * 1000), value]));
      const each = target.instant
        ? values.map(([, value]) => value)
        : times.map((time) => at.get(Math.round(time * 1000)));
      const finite = each.map((value) => (value === undefined || !Number.isFinite(value) ? null : value));
      all.push({ name, ...looksOf(panel, name, all.length), values: finite });
    }
  }
  return all;
}

/** @param {any} panel @param {string} name @param {number} index */
function looksOf(panel, name, index) {
  const looks = { colour: paletteColour(index), hasOwnColour: false, dashed: false };
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    if (!new RegExp(matcher.options.slice(1, -1)).test(name)) continue;
    for (const { id, value } of properties) {
      if (id === 'color') Object.assign(looks, { colour: colour(value.fixedColor), hasOwnColour: true });
      if (id === 'custom.lineStyle') looks.dashed = true;
    }
  }
  return looks;
}

/** The last that is something. @param {Drawn} series */
export function lastOf({ values }) {
  return values.findLast((value) => value !== null) ?? null;
}
