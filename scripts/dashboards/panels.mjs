// The kinds of panels, with what they have in common: a source that is chosen at the top, zero at the bottom, a legend.
import { PanelBuilder as BarGaugeBuilder } from '@grafana/grafana-foundation-sdk/bargauge';
import {
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GraphDrawStyle,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  LineInterpolation,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardLinkBuilder,
  MappingType,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as StatesBuilder } from '@grafana/grafana-foundation-sdk/statetimeline';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

export const SOURCE = { type: 'prometheus', uid: '${datasource}' };

/** @typedef {[expression: string, legend: string]} Query */
/** @typedef {[from: number | null, colour: string]} Step a colour from a value on; the first from null */
/**
 * @typedef {object} Common
 * @property {string} title
 * @property {string} description what is seen, and what to do about it
 * @property {string} unit of Grafana
 * @property {number} width of 24
 * @property {number} height in steps of the grid
 * @property {Query[]} queries
 * @property {Step[]} [steps]
 * @property {number} [max] of the axis
 * @property {number} [decimals]
 * @property {string} [noValue] in place of nothing
 * @property {Record<string, string>} [colours] by a regular expression that the legend matches whole
 */

/** @typedef {import('@grafana/grafana-foundation-sdk/cog').Builder<import('@grafana/grafana-foundation-sdk/dashboard').Panel> & { id(id: number): unknown }} Panel */
/** @typedef {() => Panel} Recipe */

/** The same meaning has the same colour wherever it is drawn. */
export const CODE_COLOURS = {
  account_quota: 'red',
  queue_timeout: 'orange',
  tenant_quota: 'yellow',
  budget_exhausted: 'dark-orange',
  upstream_cooldown: 'purple',
  '(state_unavailable|internal)': 'dark-red',
};
export const STATUS_COLOURS = { '2..': 'green', '3..': 'blue', 429: 'orange', '5..': 'red' };
export const CACHE_COLOURS = {
  hit: 'green',
  stale: 'orange',
  collapsed: 'blue',
  miss: 'yellow',
  bypass: 'red',
  replay: 'purple',
};

const PLAIN = /** @type {Step[]} */ ([[null, 'green']]);
const REF_IDS = 'ABCDEFGHIJKLMNOP';

/**
 * The settings that all kinds of panels share.
 * @template {StatBuilder | BarGaugeBuilder | TimeseriesBuilder | TableBuilder | StatesBuilder} B
 * @param {B} builder @param {Common} spec @param {boolean} instant
 * @returns {B}
 */
function common(builder, spec, instant) {
  builder.title(spec.title).description(spec.description).datasource(SOURCE).unit(spec.unit);
  builder
    .span(spec.width)
    .height(spec.height)
    .min(0)
    .thresholds(thresholds(spec.steps ?? PLAIN));
  if (spec.max !== undefined) builder.max(spec.max);
  if (spec.decimals !== undefined) builder.decimals(spec.decimals);
  if (spec.noValue !== undefined) builder.noValue(spec.noValue);
  for (const [i, [expression, legend]] of spec.queries.entries()) {
    const query = new DataqueryBuilder().datasource(SOURCE).expr(expression).legendFormat(legend);
    builder.withTarget((instant ? query.instant() : query.range()).refId(REF_IDS[i] ?? ''));
  }
  for (const [pattern, colour] of Object.entries(spec.colours ?? {})) {
    builder.overrideByRegexp(`/^${pattern}$/`, [{ id: 'color', value: { mode: 'fixed', fixedColor: colour } }]);
  }
  return builder;
}

/** @param {Step[]} steps */
function thresholds(steps) {
  const list = steps.map(([value, color]) => ({ value, color }));
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(list);
}

const last = () => new ReduceDataOptionsBuilder().calcs(['lastNotNull']).fields('').values(false);

/**
 * Shows one number, or one for each query.
 * @param {Common & { sparkline?: boolean }} spec a sparkline is drawn of a query over time
 */
export const stat = (spec) => () => {
  return common(new StatBuilder(), spec, spec.sparkline !== true)
    .reduceOptions(last())
    .colorMode(BigValueColorMode.Value)
    .graphMode(spec.sparkline === true ? BigValueGraphMode.Area : BigValueGraphMode.None)
    .textMode(spec.queries.length > 1 ? BigValueTextMode.ValueAndName : BigValueTextMode.Value);
};

/** A bar for each series, as it is now. @param {Common} spec */
export const bars = (spec) => () => {
  return common(new BarGaugeBuilder(), spec, true).reduceOptions(last()).orientation(VizOrientation.Horizontal);
};

/**
 * @typedef {object} OverTime
 * @property {'no' | 'sum' | 'percent'} [stacked] default: no
 * @property {boolean} [columns] for what happens now and then; a line between two such moments would be made up
 * @property {string[]} [lines] legends of what is a limit: a dashed line, not an area, and not stacked
 * @property {('lastNotNull' | 'mean' | 'max')[]} [calculations] shown beside the legend
 * @property {{ title: string, url: string }} [link] of each series
 */

/** Over time. @param {Common & OverTime} spec */
export const timeseries = (spec) => () => {
  const { stacked = 'no', columns = false, lines = [], calculations = [] } = spec;
  const mode = { no: StackingMode.None, sum: StackingMode.Normal, percent: StackingMode.Percent }[stacked];
  const builder = common(new TimeseriesBuilder(), spec, false)
    .drawStyle(columns ? GraphDrawStyle.Bars : GraphDrawStyle.Line)
    .lineInterpolation(LineInterpolation.Linear)
    .lineWidth(1)
    .fillOpacity(columns ? 70 : stacked === 'no' ? 8 : 35)
    .showPoints(VisibilityMode.Never)
    .stacking(new StackingConfigBuilder().mode(mode).group('A'))
    .legend(legend(calculations))
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  if (spec.steps !== undefined) {
    builder.thresholdsStyle(new GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed));
  }
  if (spec.link !== undefined) {
    builder.dataLinks([new DashboardLinkBuilder(spec.link.title).url(spec.link.url).targetBlank(false)]);
  }
  for (const each of lines) {
    builder.overrideByRegexp(`/^${each}$/`, [
      { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 6] } },
      { id: 'custom.fillOpacity', value: 0 },
      { id: 'custom.stacking', value: { mode: 'none', group: 'A' } },
    ]);
  }
  return builder;
};

/** @param {string[]} calculations */
function legend(calculations) {
  return new VizLegendOptionsBuilder()
    .showLegend(true)
    .displayMode(calculations.length > 0 ? LegendDisplayMode.Table : LegendDisplayMode.List)
    .placement(LegendPlacement.Bottom)
    .calcs(calculations);
}

/** @typedef {Record<number, [text: string, colour: string]>} Words */

/** @param {Words} words @returns {import('@grafana/grafana-foundation-sdk/dashboard').ValueMap} */
function worded(words) {
  const options = Object.entries(words).map(([value, [text, color]]) => [value, { text, color }]);
  return { type: MappingType.ValueToText, options: Object.fromEntries(options) };
}

/**
 * A band for each series, coloured by its value.
 * @param {Common & { values: Words }} spec
 */
export const states = (spec) => () => {
  return common(new StatesBuilder(), spec, false)
    .mappings([worded(spec.values)])
    .mergeValues(true)
    .showValue(VisibilityMode.Auto)
    .rowHeight(0.8)
    .legend(new VizLegendOptionsBuilder().showLegend(false));
};

/**
 * A row for each combination of labels, a column for each label and each query; the query's legend heads its column.
 * @param {Common & { hidden?: string[], units?: Record<string, string>, words?: Record<string, Words> }} spec columns that are
 *   not shown; units by column; words in place of values, by column
 */
export const table = (spec) => () => {
  const builder = common(new TableBuilder(), { ...spec, queries: [] }, true);
  /** @type {Record<string, string>} */
  const renamed = {};
  /** @type {Record<string, boolean>} */
  const excluded = { Time: true };
  for (const [i, [expression, heading]] of spec.queries.entries()) {
    const refId = REF_IDS[i] ?? '';
    const query = new DataqueryBuilder().datasource(SOURCE).expr(expression).legendFormat(heading).refId(refId);
    builder.withTarget(query.instant().format(PromQueryFormat.Table));
    const column = spec.queries.length > 1 ? `Value #${refId}` : 'Value';
    if (spec.hidden?.includes(heading)) excluded[column] = true;
    else renamed[column] = heading;
    const unit = spec.units?.[heading];
    if (unit !== undefined) builder.overrideByName(heading, [{ id: 'unit', value: unit }]);
    const words = spec.words?.[heading];
    if (words !== undefined) builder.overrideByName(heading, [{ id: 'mappings', value: [worded(words)] }]);
  }
  if (spec.queries.length > 1) builder.withTransformation({ id: 'merge', options: {} });
  return builder.withTransformation({ id: 'organize', options: { excludeByName: excluded, renameByName: renamed } });
};
