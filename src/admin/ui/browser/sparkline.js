/** The geometry of the chart; chart.js draws it. */

/**
 * @typedef {object} Sample
 * @property {number} at milliseconds of the epoch
 * @property {number} own
 * @property {number} external
 * @property {boolean} cooldown
 */
/**
 * @typedef {object} Plane
 * @property {number} width
 * @property {number} height
 * @property {number} from time at the left edge
 * @property {number} to time at the right edge
 * @property {number} top value at the upper edge
 * @property {number} gapMs samples further apart than this are not joined
 */

/**
 * Areas of the account's slots from the bottom, with the external usage on top, and its cooldowns.
 *
 * @param {readonly Sample[]} samples oldest first
 * @param {Plane} frame
 */
export function sparklinesOf(samples, frame) {
  const { width, height, from, to, top } = frame;
  const x = (/** @type {number} */ at) => round(((at - from) / (to - from)) * width);
  const y = (/** @type {number} */ value) => round(height - (Math.min(value, top) / top) * height);
  let own = '';
  let external = '';
  /** @type {{ x: number, width: number }[]} */
  const cooldown = [];
  for (const run of runsOf(
    samples.filter(({ at }) => at >= from && at <= to),
    frame.gapMs,
  )) {
    const upper = run.map((each) => `${x(each.at)} ${y(each.own)}`);
    const left = x(run[0]?.at ?? from);
    const right = x(run.at(-1)?.at ?? to);
    own += `M${left} ${height}L${upper.join('L')}L${right} ${height}Z`;
    if (run.some((each) => each.external > 0)) {
      const above = run.map((each) => `${x(each.at)} ${y(each.own + each.external)}`);
      external += `M${above.join('L')}L${upper.toReversed().join('L')}Z`;
    }
    run.forEach((each, i) => {
      const next = run[i + 1];
      if (each.cooldown) cooldown.push({ x: x(each.at), width: Math.max(1, x(next?.at ?? to) - x(each.at)) });
    });
  }
  return { own, external, cooldown, y };
}

/** @param {readonly Sample[]} samples @param {number} gapMs */
function runsOf(samples, gapMs) {
  /** @type {Sample[][]} */
  const runs = [];
  for (const sample of samples) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run === undefined || last === undefined || sample.at - last.at > gapMs) runs.push([sample]);
    else run.push(sample);
  }
  return runs;
}

/** A tenth of a pixel is enough, and half as long. @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
