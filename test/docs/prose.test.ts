import { describe, expect, test } from 'vitest';
import { findingsIn } from '../../scripts/prose/rules.mjs';

const rulesOf = (path: string, text: string) => findingsIn(path, () => text).map(({ line, rule }) => `${line} ${rule}`);
const NO_SUBJECT = 'opens without a subject';

describe('a comment that opens without a subject is found', () => {
  test.each([
    ['a.ts', "import x from './x.ts';\n// What is sent.\n", `2 ${NO_SUBJECT}`],
    ['a.ts', '/** Of a tenant. */\n', `1 ${NO_SUBJECT}`],
    ['a.ts', 'if (x) {\n  /**\n   * Whatever comes next.\n   */\n}\n', `3 ${NO_SUBJECT}`],
    ['a.mjs', '// One file a concern.\n', `1 ${NO_SUBJECT}`],
    ['a.lua', 'local a = 1\n-- Those that wait.\n', `2 ${NO_SUBJECT}`],
    ['a.yaml', 'a: 1\n# That is all.\n', `2 ${NO_SUBJECT}`],
    ['Dockerfile', '# Who runs it.\n', `1 ${NO_SUBJECT}`],
  ])('%s: %j', (path, text, finding) => {
    expect(rulesOf(path, text)).toEqual([finding]);
  });

  test('and the second line of a comment is no opening', () => {
    expect(rulesOf('a.ts', '// The store keeps\n// One entry for each key.\n')).toEqual([]);
  });

  test('and code and documents are not comments', () => {
    expect(rulesOf('a.ts', "const text = 'What is it';\n")).toEqual([]);
    expect(rulesOf('a.md', 'What is sent.\n')).toEqual([]);
  });
});

describe('a forbidden word is found', () => {
  test.each([
    ['in a comment', 'a.ts', '// The request is sent by nobody.\n', '1 "nobody"'],
    ['on its line of a block', 'a.ts', '/**\n * The lock is free,\n * and can not be lost.\n */\n', '3 "can not"'],
    ['in a log message', 'a.ts', "log.warn({}, 'the caller is told');\n", '1 "is told"'],
    ['in a test name', 'a.test.ts', "test('whoever waits spends nothing', () => {});\n", '1 "whoever"'],
    ['in an alert', 'a.yaml', 'summary: Somebody uses the account\n', '1 "Somebody"'],
    ['in a document', 'a.md', 'Text.\n\nIt gives the first answer again.\n', '3 "first answer"'],
    ['in a page', 'a.html', '<p>\nforeign use\n</p>\n', '2 "foreign use"'],
  ])('%s', (_, path, text, finding) => {
    expect(rulesOf(path, text)).toEqual([finding]);
  });

  test.each([
    ['a name of code', 'a.md', 'The metric `refusal` counts.\n'],
    ['a block of code', 'a.md', '```sh\nnobody\n```\n'],
    ['an identifier', 'a.ts', 'const ledger = openLedger(nobody);\n'],
    ['a standard term', 'a.ts', '// Requests in flight, and the in-flight fetch of a key.\n'],
    ['a verb', 'a.ts', '// Redis answers within a millisecond.\n'],
    ['another file type', 'a.svg', 'nobody'],
  ])('and %s is none', (_, path, text) => {
    expect(rulesOf(path, text)).toEqual([]);
  });
});

describe('a line of a document above 100 characters', () => {
  const long = 'word '.repeat(25);
  test('is found', () => {
    expect(rulesOf('a.md', `Short.\n${long}\n`)).toEqual(['2 longer than 100 characters']);
  });

  test.each([
    ['a table', `| ${long} |\n`],
    ['a heading', `## ${long}\n`],
    ['code', `\`\`\`text\n${long}\n\`\`\`\n`],
    ['the target of a link', `[text](${'x'.repeat(120)})\n`],
    ['an address', `See https://example.test/${'x'.repeat(120)}\n`],
  ])('is allowed in %s', (_, text) => {
    expect(rulesOf('a.md', text)).toEqual([]);
  });
});
