import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const below = (folder: string) =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name))
    : [];
const pages = [...readdirSync(root), ...['docs', 'deploy', 'helm'].flatMap(below)].filter((name) =>
  name.endsWith('.md'),
);

/** As GitHub makes them: lower case, punctuation gone, spaces to dashes. */
const anchorsOf = (markdown: string): Set<string> =>
  new Set(
    [...markdown.replaceAll(/^```.*?^```/gms, '').matchAll(/^#{1,6} (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  );

test('there are pages to look at', () => expect(pages).toContain('README.md'));

test.each(pages)('every link of %s that stays in the repository leads somewhere', (page) => {
  const text = readFileSync(join(root, page), 'utf8')
    .replaceAll(/^```.*?^```/gms, '')
    .replaceAll(/`[^`\n]*`/g, '');
  const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : relative(root, join(root, dirname(page), path));
      if (!existsSync(join(root, file))) return true;
      return anchor !== undefined && !anchorsOf(readFileSync(join(root, file), 'utf8')).has(anchor);
    });
  expect(broken).toEqual([]);
});

/** Files of the repository in backticks, without wildcards and placeholders. */
const FILE = /`((?:src|test|scripts|deploy|helm|config|docs)\/[\w./-]+\.\w+)`/g;

test.each(pages.filter((page) => page !== 'docs/architecture.md'))('every file that %s names is there', (page) => {
  const named = [...readFileSync(join(root, page), 'utf8').matchAll(FILE)].map(([, path = '']) => path);
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});
