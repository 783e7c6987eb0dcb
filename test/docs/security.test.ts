import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(`${root}/docs/security.md`, 'utf8').replaceAll(/\s+/g, ' ');

/** `file.test.ts: *name*, *name*` → [file, name]. */
const claims = [...page.matchAll(/((?:src|test)\/[\w./-]+\.test\.ts): ((?:\*[^*]+\*(?:, )?)+)/g)].flatMap(
  ([, file = '', names = '']) => [...names.matchAll(/\*([^*]+)\*/g)].map(([, name = '']) => [file, name] as const),
);

test('the page makes claims, and every test file it speaks of is part of one', () => {
  expect(claims.length).toBeGreaterThan(20);
  const files = new Set(page.match(/(?:src|test)\/[\w./-]+\.test\.ts/g));
  expect([...files].sort()).toEqual([...new Set(claims.map(([file]) => file))].sort());
});

test.each(claims)('%s holds what the page says: %s', (file, name) => {
  expect(existsSync(`${root}/${file}`)).toBe(true);
  // The page leaves out what a table puts into a name, and may leave out its end.
  const text = readFileSync(`${root}/${file}`, 'utf8').replaceAll(/(['`])(?:%[sij] )+/g, '$1');
  expect(["'", '`'].some((quote) => text.includes(quote + name))).toBe(true);
});
