import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type ProblemCode, problems } from '../../src/problem.ts';

const page = await readFile(new URL('../../docs/failure-modes.md', import.meta.url), 'utf8');
const codes = Object.keys(problems) as ProblemCode[];

test('every code has a section of its own that begins with its status, and no other code has one', () => {
  const sections = [...page.matchAll(/^### (\S+)\n\*\*(\d{3})\.\*\*/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ]);
  const table = codes.map((code) => [code, problems[code].status]);
  expect(sections.toSorted()).toEqual(table.toSorted());
});

test('the overview names every code with its status and leads to its section', () => {
  const rows = [...page.matchAll(/^\| \[`(\w+)`\]\(#(\w+)\) \| (\d{3}) \|/gm)].map(([, code, anchor, status]) => [
    code,
    anchor,
    Number(status),
  ]);
  expect(rows.toSorted()).toEqual(codes.map((code) => [code, code, problems[code].status]).toSorted());
});
