// Medians and what lies around them. Rounds are few, so the spread is the whole range and not an estimate of one.

/** @typedef {{ median: number, least: number, most: number }} Spread */

/** @param {readonly number[]} values */
export function median(values) {
  if (values.length === 0) throw new Error('no median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** @param {readonly number[]} values @returns {Spread} */
export const spread = (values) => ({
  median: median(values),
  least: Math.min(...values),
  most: Math.max(...values),
});

/**
 * Ratios of rounds that ran one after the other: what slows the machine down for a while slows both.
 * @param {readonly number[]} ours @param {readonly number[]} theirs @returns {Spread}
 */
export function ratios(ours, theirs) {
  if (ours.length !== theirs.length) throw new Error(`${ours.length} rounds beside ${theirs.length}`);
  return spread(ours.map((each, round) => each / (theirs[round] ?? Number.NaN)));
}

/**
 * The smallest value that at least this share of all is not above (nearest rank).
 * @param {readonly number[]} sorted ascending @param {number} share above 0, at most 1
 */
export function percentile(sorted, share) {
  const at = sorted[Math.ceil(sorted.length * share) - 1];
  if (at === undefined) throw new Error('no percentile of nothing');
  return at;
}
