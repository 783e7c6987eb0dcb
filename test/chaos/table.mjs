// The table of docs/reliability.md, between its markers: a row of a run takes the place of its older one, in the order of the faults.

/** @typedef {import('./types.ts').Row} Row */

const BEGIN = '<!-- rows: npm run test:chaos -- --write -->';
const END = '<!-- end of rows -->';
const HEAD = [
  '| fault | Redis | requests | meanwhile callers saw | normal again after | in 60 s | twice | lost, mixed | left behind |',
  '| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |',
];

/** @param {Row['saw']} saw */
function inWords(saw) {
  const all = Object.entries(saw).sort(([, a], [, b]) => b - a);
  const good = all.filter(([what]) => /^2\d\d$/.test(what)).reduce((sum, [, count]) => sum + count, 0);
  const rest = all.filter(([what]) => !/^2\d\d$/.test(what)).map(([what, count]) => `${count} × ${what}`);
  return [`${good} × 2xx`, ...rest].join(', ');
}

/** @param {Row} row */
export function lineOf(row) {
  const recovery = row.recoveryMs === null ? 'not' : `${(row.recoveryMs / 1_000).toFixed(1)} s`;
  const left = row.leaks.length === 0 ? 'nothing' : row.leaks.join('; ');
  const twice = row.forgotten === 0 ? String(row.duplicates) : `${row.duplicates} (+${row.forgotten} forgotten)`;
  const cells = [
    `\`${row.fault}\`: ${row.about}`,
    row.state,
    row.requests,
    inWords(row.saw),
    recovery,
    `${row.greatestIn60s} of ${row.ceiling}`,
    twice,
    `${row.lost}, ${row.mixed}`,
    left,
  ];
  const line = `| ${cells.join(' | ')} |`;
  return row.violations.length === 0 ? line : `${line} <!-- NOT HELD: ${row.violations.join('; ')} -->`;
}

const nameOf = (/** @type {string} */ line) => /^\| `([^`]+)`[^|]*\| (\w+) \|/.exec(line)?.slice(1).join(' ') ?? null;

/**
 * @param {string} document @param {readonly Row[]} rows
 * @param {readonly string[]} order `fault state`; a row of none of them is dropped
 */
export function documentWith(document, rows, order) {
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (from === -1 || to < from) throw new Error('the document has no markers for the table');
  /** @type {Map<string, string>} */
  const lines = new Map();
  for (const line of [...document.slice(from, to).split('\n'), ...rows.map(lineOf)]) {
    const name = nameOf(line);
    if (name !== null) lines.set(name, line);
  }
  const kept = order.flatMap((name) => lines.get(name) ?? []);
  return `${document.slice(0, from)}${[BEGIN, '', ...HEAD, ...kept, '', END].join('\n')}${document.slice(to + END.length)}`;
}
