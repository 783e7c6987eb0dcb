// Whether a measure grows over time, and how sure that is: least squares, with a 95 % interval.

/** @typedef {{ at: number, value: number }} Sample `at` in seconds */
/** @typedef {{ perHour: number, error: number }} Trend `error`: half the 95 % interval of the slope */
/** @typedef {'flat' | 'grows' | 'unclear'} Finding */

/** Quantiles of Student's t for a two-sided 95 % interval, by degrees of freedom. */
const STUDENT = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13];
/** Upper bound of the autocorrelation of neighbouring samples. A higher value would make every trend unclear. */
const MOST_ALIKE = 0.8;

/** @param {readonly Sample[]} points @returns {Trend | null} null: too few to tell */
export function trendOf(points) {
  const n = points.length;
  if (n < 4) return null;
  const mean = (/** @type {(point: Sample) => number} */ of) => points.reduce((sum, each) => sum + of(each), 0) / n;
  const [at, value] = [mean((each) => each.at), mean((each) => each.value)];
  const spread = points.reduce((sum, each) => sum + (each.at - at) ** 2, 0);
  const slope = points.reduce((sum, each) => sum + (each.at - at) * (each.value - value), 0) / spread;
  const rest = points.map((each) => each.value - value - slope * (each.at - at));
  const squares = rest.reduce((sum, each) => sum + each ** 2, 0);
  const alike =
    squares === 0
      ? 0
      : rest.slice(1).reduce((sum, each, i) => sum + each * /** @type {number} */ (rest[i]), 0) / squares;
  const known = Math.min(MOST_ALIKE, Math.max(0, alike));
  const deviation = Math.sqrt((squares / (n - 2) / spread) * ((1 + known) / (1 - known)));
  return { perHour: slope * 3600, error: (STUDENT[n - 3] ?? 2.1) * deviation * 3600 };
}

/**
 * @param {Trend | null} trend @param {number} tolerated growth an hour that is none
 * @returns {Finding} flat: surely less than what is tolerated; grows: surely something, and more than that
 */
export function judgeTrend(trend, tolerated) {
  if (trend === null) return 'unclear';
  if (trend.perHour + trend.error <= tolerated) return 'flat';
  return trend.perHour > tolerated && trend.perHour - trend.error > 0 ? 'grows' : 'unclear';
}
