import { readFileSync } from 'node:fs';

/**
 * Reads the tests that are known to fail, with the reasons. People maintain the list, so that a change in either direction is reviewed.
 * @param {string} list name of the file
 * @returns {Record<string, string>} reasons by test
 */
export const readDeviations = (list) => JSON.parse(readFileSync(new URL(list, import.meta.url), 'utf8'));

/**
 * @param {Record<string, string>} deviations
 * @param {ReadonlyMap<string, import('./score.mjs').Verdict>} verdicts
 * @param {import('./suite.mjs').Results} results
 * @returns {string[]} where the list and the run disagree
 */
export function disagreements(deviations, verdicts, results) {
  const listed = new Set(Object.keys(deviations));
  const surprises = [...verdicts].flatMap(([id, verdict]) => {
    if (verdict === 'passed') return listed.has(id) ? [`${id}: passes now; take it out of the list`] : [];
    return listed.has(id) ? [] : [`${id}: ${verdict}; ${describe(results[id])}`];
  });
  const unknown = [...listed]
    .filter((id) => !verdicts.has(id))
    .map((id) => `${id}: is listed, but there is no such test`);
  const silent = [...listed]
    .filter((id) => deviations[id]?.trim() === '')
    .map((id) => `${id}: is listed without a reason`);
  return [...surprises, ...unknown, ...silent];
}

/** @param {import('./suite.mjs').Results[string] | undefined} result */
const describe = (result) => (Array.isArray(result) ? result.join(': ') : 'no failure of its own');
