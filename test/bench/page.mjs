// Where the numbers of a program go: into a page, between two marks of that name.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

export const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** What numbers have to be read with. */
export const machine = () =>
  `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`;

/** @param {string} page below the root @param {string} name @param {string} content */
export function writeSection(page, name, content) {
  const text = readFileSync(inRoot(page), 'utf8');
  const [from, to] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, stop] = [text.indexOf(from), text.indexOf(to)];
  if (start < 0 || stop < 0) throw new Error(`${page} has no ${from}`);
  writeFileSync(inRoot(page), `${text.slice(0, start + from.length)}\n${content}\n${text.slice(stop)}`);
}

/** @param {readonly (string | number)[][]} rows the first is the head */
export function table(rows) {
  const [head = [], ...body] = rows;
  return [head, head.map(() => '---'), ...body].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

/** @param {readonly number[]} list @param {number} part */
export function quantile(list, part) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}
