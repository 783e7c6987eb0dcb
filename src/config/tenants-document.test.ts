import { describe, expect, test } from 'vitest';
import { addKey, addTenant, type Edited, idsOf, keySnippet, removeKey } from './tenants-document.ts';

const KEY = { id: '2026-11', sha256: 'ab'.repeat(32), expires: '2027-05-31T00:00:00Z' };
const LINE = `{ id: 2026-11, sha256: ${KEY.sha256}, expires: 2027-05-31T00:00:00Z }`;

/** Comments, odd spacing, quotes, a long line and blank lines: all of them people's own. */
const FILE = `# Tenants of the team.   Ask platform@example.org.

tenants:
  # Invoices.
  billing:    # since 2024
    keys:
      # Ends with the contract.
      - { id: 2026-05,   sha256: "${'01'.repeat(32)}" }   # laptop of nobody
      - id: "2026-06"
        sha256: ${'cd'.repeat(32)}   # in the vault
    allow: [ "GET /api/v1/**", 'POST /api/v1/flows/*/start/**', "POST /api/v1/flows/*/manual/**", "GET /api/v2/**" ]


  reports: { keys: [], quota: { rate: 30 } }   # nightly
  empty:
# The end.
`;

const textOf = (edited: Edited): string => {
  if (!edited.ok) throw new Error(edited.reason);
  return edited.text;
};
const reasonOf = (edited: Edited) => (edited.ok ? edited.text : edited.reason);

/** Lines with a sign in front, as \`diff\` shows them. */
function diff(before: string, after: string): string[] {
  const [old, next] = [before.split('\n'), after.split('\n')];
  return [
    ...old.filter((line) => !next.includes(line)).map((line) => `-${line}`),
    ...next.filter((line) => !old.includes(line)).map((line) => `+${line}`),
  ];
}

describe('an edit changes only its own lines', () => {
  test('a key is added below the others', () => {
    const text = textOf(addKey(FILE, 'billing', KEY));
    expect(diff(FILE, text)).toEqual([`+      - ${LINE}`]);
    const before = FILE.split('\n');
    expect(text).toBe([...before.slice(0, 10), `      - ${LINE}`, ...before.slice(10)].join('\n'));
  });

  test('a key is added to a tenant in braces, and to one without options', () => {
    expect(diff(FILE, textOf(addKey(FILE, 'reports', KEY)))).toEqual([
      '-  reports: { keys: [], quota: { rate: 30 } }   # nightly',
      `+  reports: { keys: [ ${LINE} ], quota: { rate: 30 } } # nightly`,
    ]);
    const text = textOf(addKey(FILE, 'empty', KEY));
    expect([idsOf(text, 'empty'), text.includes('# The end.')]).toEqual([['2026-11'], true]);
  });

  test('a key is removed with its own comment', () => {
    const text = textOf(removeKey(FILE, 'billing', '2026-06'));
    expect(diff(FILE, text)).toEqual([
      '-      - id: "2026-06"',
      `-        sha256: ${'cd'.repeat(32)}   # in the vault`,
    ]);
    expect(text).toContain('# Ends with the contract.');
    const last = textOf(removeKey(text, 'billing', '2026-05'));
    expect([idsOf(last, 'billing'), diff(text, last).length]).toEqual([[], 2]);
  });

  test('a tenant is added at the end', () => {
    const tenant = { name: 'sync', rate: 60, allow: ['GET /api/v1/**'] };
    expect(diff(FILE, textOf(addTenant(FILE, tenant)))).toEqual([
      '+  sync:',
      '+    allow:',
      '+      - GET /api/v1/**',
      '+    quota: { rate: 60 }',
    ]);
  });

  test.each([
    ['lists at the level of their key', 'tenants:\n  a:\n    keys:\n    - {id: x,  sha256: "00"}  # old\n', '    - '],
    ['four spaces', 'tenants:\n    a:\n        keys:\n            - {id: x,  sha256: "00"}  # old\n', '            - '],
    ['carriage returns', 'tenants:\r\n  a:\r\n    keys:\r\n      - {id: x,  sha256: "00"}  # old\r\n', '      - '],
  ])('in a file with %s', (_name, file, prefix) => {
    const end = file.includes('\r') ? '\r\n' : '\n';
    expect(textOf(addKey(file, 'a', KEY))).toBe(`${file}${prefix}${LINE}${end}`);
  });

  test('in JSON', () => {
    const file = '{\n  "tenants": {\n    "a": { "quota": { "rate": 5 } }\n  }\n}\n';
    expect(idsOf(textOf(addKey(file, 'a', KEY)), 'a')).toEqual(['2026-11']);
  });
});

test('a new file begins with its first tenant', () => {
  expect(textOf(addTenant('', { name: 'billing' }))).toBe('tenants:\n  billing: {}\n');
  expect(textOf(addTenant('# Ours.\n', { name: 'billing', rate: 5 }))).toContain('# Ours.\n');
  expect(keySnippet('billing', KEY)).toBe(`tenants:\n  billing:\n    keys:\n      - ${LINE}\n`);
});

test('the ids of a tenant are those of its keys and identities', () => {
  expect(idsOf(FILE, 'billing')).toEqual(['2026-05', '2026-06']);
  expect(idsOf('tenants: { a: { keys: [{ id: x }], identities: [{ id: y }, { issuer: z }] } }', 'a')).toEqual([
    'x',
    'y',
  ]);
  expect([idsOf(FILE, 'other'), idsOf('[', 'a'), idsOf('', 'a')]).toEqual([[], [], []]);
});

describe('nothing is edited', () => {
  const shared = 'base: &keys [{ id: x }]\ntenants: { a: { keys: *keys }, b: &b { }, c: *b, d: [] }\n';
  test.each([
    ['a tenant that is not there', addKey(FILE, 'other', KEY), 'patchgate tenant add other --write adds it'],
    ['a tenant that is there', addTenant(FILE, { name: 'empty' }), 'there is a tenant "empty" already'],
    ['an id that is there', addKey(FILE, 'billing', { ...KEY, id: '2026-05' }), 'has a key "2026-05" already'],
    ['a key that is not there', removeKey(FILE, 'billing', 'x'), 'has no key "x"; it has 2026-05, 2026-06'],
    ['a key of a tenant without keys', removeKey(FILE, 'empty', 'x'), 'has no key "x"; it has none'],
    ['a list that others share', addKey(shared, 'a', KEY), 'tenants.a.keys is an alias'],
    ['a tenant that others share', addKey(shared, 'c', KEY), 'tenants.c is an alias'],
    ['a tenant of another kind', addKey(shared, 'd', KEY), 'tenants.d is no map: correct the file first'],
    ['what is no YAML', addKey('tenants: [', 'a', KEY), 'line 1 is not valid YAML'],
    ['what is no map', addTenant('[]', { name: 'a' }), 'it is no map of options'],
  ])('%s', (_name, edited, reason) => {
    expect(edited.ok).toBe(false);
    expect(reasonOf(edited)).toContain(reason);
  });
});
