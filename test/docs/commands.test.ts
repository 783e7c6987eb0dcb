import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { scripts } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { scripts: Record<string, string> };
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(`${root}/docs`, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

test.each(pages)('every npm script that %s names is in package.json', (page) => {
  const named = [...readFileSync(`${root}/${page}`, 'utf8').matchAll(/npm run (?:--silent )?([\w:]+)/g)];
  expect(named.map(([, script = '']) => script).filter((script) => !(script in scripts))).toEqual([]);
});

test('CONTRIBUTING.md names every npm script', () => {
  const page = readFileSync(`${root}/CONTRIBUTING.md`, 'utf8');
  expect(Object.keys(scripts).filter((script) => !new RegExp(`\\b${script}\\b`).test(page))).toEqual([]);
});
