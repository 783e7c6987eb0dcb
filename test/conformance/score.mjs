import { layoutOf } from './package.mjs';

/**
 * @typedef {import('./suite.mjs').TestSet} TestSet
 * @typedef {import('./suite.mjs').Results} Results
 * @typedef {import('./suite.mjs').Kind} Kind
 * @typedef {'passed' | 'failed' | 'setup' | 'dependency' | 'retried' | 'untested'} Verdict
 */

/** @type {readonly Kind[]} */
export const KINDS = ['required', 'optimal', 'check'];

/** The suite's verdicts by the sign it prints for them. @type {Readonly<Record<string, Verdict>>} */
const VERDICTS = {
  '✅': 'passed',
  Y: 'passed',
  '⛔️': 'failed',
  '⚠️': 'failed',
  N: 'failed',
  '🔹': 'setup',
  '⁉️': 'setup',
  '⚪️': 'dependency',
  '↻': 'retried',
  '-': 'untested',
};

/**
 * The verdict on each test, by the suite's own rules: a test whose dependency did not pass has not passed either.
 * @param {string} folder @param {TestSet[]} sets
 * @returns {Promise<(results: Results) => Map<string, Verdict>>}
 */
export async function judgeBy(folder, sets) {
  const { determineTestResult } = await import(layoutOf(folder).verdicts);
  return (results) =>
    new Map(
      sets.flatMap(({ tests }) =>
        tests.map(({ id }) => {
          const sign = String(determineTestResult(sets, id, results)[2]);
          const verdict = VERDICTS[sign];
          if (verdict === undefined) throw new Error(`${id}: unknown verdict ${sign}`);
          return /** @type {const} */ ([id, verdict]);
        }),
      ),
    );
}

/**
 * @param {TestSet[]} sets @param {ReadonlyMap<string, Verdict>} verdicts
 * @returns {Record<Kind, { passed: number, all: number }>}
 */
export function countByKind(sets, verdicts) {
  const counts = {
    required: { passed: 0, all: 0 },
    optimal: { passed: 0, all: 0 },
    check: { passed: 0, all: 0 },
  };
  for (const { id, kind = 'required' } of sets.flatMap(({ tests }) => tests)) {
    counts[kind].all += 1;
    if (verdicts.get(id) === 'passed') counts[kind].passed += 1;
  }
  return counts;
}

/** @param {TestSet[]} sets @param {ReadonlyMap<string, Verdict>} verdicts @returns {string[]} lines of a table */
export function tableBySuite(sets, verdicts) {
  const rows = sets.map((set) => [set.name, ...cells(countByKind([set], verdicts))]);
  return table([['suite', ...KINDS], ...rows]);
}

/** @param {TestSet[]} sets @param {[name: string, verdicts: ReadonlyMap<string, Verdict>][]} caches @returns {string[]} */
export function tableByCache(sets, caches) {
  const rows = caches.map(([name, verdicts]) => [name, ...cells(countByKind(sets, verdicts))]);
  return table([['cache', ...KINDS], ...rows]);
}

/** @param {ReturnType<typeof countByKind>} counts */
const cells = (counts) =>
  KINDS.map((kind) => (counts[kind].all === 0 ? '' : `${counts[kind].passed} of ${counts[kind].all}`));

/** @param {string[][]} rows @returns {string[]} */
function table(rows) {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** @param {ReturnType<typeof countByKind>} counts */
export const inOneLine = (counts) =>
  KINDS.map((kind) => `${kind} ${counts[kind].passed} of ${counts[kind].all}`).join(', ');
