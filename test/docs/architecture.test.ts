import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(`${root}/docs/architecture.md`, 'utf8');

/** Paths that the renames of files bring; the list goes when they are done. */
const TO_COME = new Set(['src/adapters/redis/client/scripts.ts', 'src/adapters/redis/quota/']);

const expanded = (path: string): string[] => {
  const [, before, choices, after] = /^([^{]*)\{([^}]+)\}(.*)$/.exec(path) ?? [];
  return choices === undefined ? [path] : choices.split(',').map((choice) => `${before}${choice}${after}`);
};

const inBackticks = [...page.matchAll(/`((?:src|test|docs|deploy|helm|scripts|config)\/[^`\s]*)`/g)]
  .flatMap(([, path = '']) => expanded(path))
  .filter((path) => !path.includes('*') && !path.includes('NNNN'));
const inPicture = [...page.matchAll(/\b(?:server|gateway|routing|auth|cache|quota|upstream|adapters)\/[\w-]+\.ts\b/g)]
  .filter(({ index }) => page[index - 1] !== '/')
  .map(([path]) => `src/${path}`);

test('the page names paths', () => expect(inBackticks.length).toBeGreaterThan(50));

test.each([...new Set([...inBackticks, ...inPicture])])('%s, which the page names, is there', (path) => {
  expect(existsSync(`${root}/${path}`) || TO_COME.has(path)).toBe(true);
});

test('the picture and the table name the middleware of the pipeline, in its order', () => {
  const picture = [...page.matchAll(/^ {26}(\w+) {2,}\S/gm)].map(([, name]) => name);
  const table = [...page.matchAll(/^\| `(\w+)` \| `src\//gm)].map(([, name]) => name);
  const source = readFileSync(`${root}/src/gateway/pipeline.ts`, 'utf8');
  const pipeline = [...source.matchAll(/\.(?:use|handle)\((\w+)\(/g)].map(([, name = '']) => name);
  expect(pipeline.length).toBeGreaterThan(10);
  expect(table).toEqual(pipeline);
  expect(picture.filter((name) => name !== undefined && pipeline.includes(name))).toEqual(pipeline);
});
