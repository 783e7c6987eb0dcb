// The page that the benchmarks share: each writes between its own marks, and the targets read what the simulation of the quota wrote.

/** @param {string} text @param {string} name */
function marksOf(text, name) {
  const from = `<!-- ${name} -->`;
  const start = text.indexOf(from);
  const stop = text.indexOf(`<!-- /${name} -->`);
  if (start < 0 || stop < start) throw new Error(`the page has no ${from}`);
  return { start: start + from.length, stop };
}

/** @param {string} text @param {string} name @param {string} content */
export function replaced(text, name, content) {
  const { start, stop } = marksOf(text, name);
  return `${text.slice(0, start)}\n${content}\n${text.slice(stop)}`;
}

/** Cells of each row of the tables in a section. @param {string} text @param {string} name @returns {string[][]} */
function rowsOf(text, name) {
  const { start, stop } = marksOf(text, name);
  const rows = text
    .slice(start, stop)
    .split('\n')
    .filter((line) => line.startsWith('| '));
  return rows.map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
}

/** @param {string} text @returns {import('./speed/targets.mjs').Goodput} */
export function goodputIn(text) {
  const { start, stop } = marksOf(text, 'quota-simulation');
  const jittery = text
    .slice(start, stop)
    .split('#### ')
    .filter((part) => part.startsWith('jittery') && !part.includes('greedy'));
  const rows = jittery
    .flatMap((part) => rowsOf(`<!-- x -->${part}<!-- /x -->`, 'x'))
    .filter(([name]) => name?.includes('3 replicas on Redis'));
  if (rows.length === 0) return null;
  return {
    goodput: Math.min(...rows.map((row) => Number(row[2]))),
    throttled: Math.max(...rows.map((row) => Number(row[3]))),
  };
}
