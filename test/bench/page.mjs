// Where the numbers of a program go: into a page, between two marks of that name.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { replaced } from './sections.mjs';

export const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** The machine, the Node version and the date that the numbers belong to. */
export const machine = () =>
  `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`;

/** @param {string} page below the root @param {string} name @param {string} content */
export function writeSection(page, name, content) {
  writeFileSync(inRoot(page), replaced(readFileSync(inRoot(page), 'utf8'), name, content));
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
