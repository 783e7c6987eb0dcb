import { describe, expect, test } from 'vitest';
import { parseYaml } from './yaml-source.ts';

const parsed = (text: string) => {
  const result = parseYaml('tenants.yaml', text);
  if (!('source' in result)) throw new Error('is not valid YAML');
  return result.source;
};
const problemsOf = (text: string) => {
  const result = parseYaml('x.yaml', text);
  return 'problems' in result ? result.problems.map(({ line, message }) => `${line}: ${message}`) : [];
};

/** CPU time, which waits for no other process. The lesser of two: what the collector of garbage adds is not the step's own. */
function cpuOf(run: () => void): number {
  const once = (): number => {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  return Math.min(once(), once());
}

describe('a map of 16,000 tenants costs about what the same tenants cost in 160 maps', () => {
  const TENANTS = 16_000;
  const GROUP = 100;
  const group = (from: number, indent: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${indent}t${from + i}: 60`).join('\n');
  const one = group(0, '', TENANTS);
  const many = Array.from({ length: TENANTS / GROUP }, (_, i) => `g${i}:\n${group(i * GROUP, '  ', GROUP)}`).join('\n');
  /** A comparison of each with each costs twice this, and more. */
  const ABOUT = 4;

  test('to parse', () => {
    expect(cpuOf(() => void parsed(one))).toBeLessThan(ABOUT * cpuOf(() => void parsed(many)));
  });

  test('to find the lines of a problem in each', () => {
    const numbers = Array.from({ length: TENANTS }, (_, i) => i);
    const inOne = () => {
      const source = parsed(one);
      expect(numbers.filter((i) => source.problem([`t${i}`], '').line !== i + 1)).toEqual([]);
    };
    const inMany = () => {
      const source = parsed(many);
      expect(numbers.filter((i) => source.problem([`g${Math.floor(i / GROUP)}`, `t${i}`], '').line === null)).toEqual(
        [],
      );
    };
    expect(cpuOf(inOne)).toBeLessThan(ABOUT * cpuOf(inMany));
  });
});

test('a duplicate key is reported with its line, at any depth, also if only the quotes differ', () => {
  const text = 'a: 1\nb: { c: 1, d: 2, "c": 3 }\ne:\n  - f: 1\n    g: 2\n    f: 3\n\'a\': 2\n1: x\n"1": y\n';
  const result = parseYaml('x.yaml', text);
  expect('problems' in result && result.problems.map(({ line }) => line)).toEqual([2, 6, 7, 9]);
});

test('a duplicate key is named with both of its lines, unless it is no name', () => {
  const lines = 'and first on line 1: put the lines of both under one';
  expect(problemsOf('tenants:\n  a: 1\ntenants:\n  b: 2')).toEqual([
    `3: the key "tenants" is in this map twice, ${lines}`,
  ]);
  const long = 'x'.repeat(65);
  expect(problemsOf(`${long}: 1\n${long}: 2`)).toEqual([`2: a key is in this map twice, ${lines}`]);
});

describe('a mistake of the syntax is one problem, in words of the file', () => {
  const INDENT =
    'is not indented like the lines above it: options of one map, or items of one list, begin in the same column';
  test.each([
    [
      'a placeholder in a map',
      'a: { b: ${NAME} }\nc: { d: 1 }',
      '1: has a placeholder without quotes inside { } or [ ]: write "${NAME}"',
    ],
    [
      'a placeholder in a list',
      'a: 1\nb: [${file:/x}]',
      '2: has a placeholder without quotes inside { } or [ ]: write "${NAME}"',
    ],
    ['an option left of its neighbours', 'a:\n  b: 1\n c: 2', `3: ${INDENT}`],
    ['a list left of its option', 'a:\n  b:\n    c:\n  - d: 1\n    e: 2', `4: ${INDENT}`],
    [
      'an option right of its neighbours',
      'a:\n  b: 1\n    c: 2',
      '2: has a value, and the line below is indented further: indent both alike',
    ],
    ['a pattern without quotes', 'a:\n  - { b: * /x, c: d }', '2: has a * without quotes: write "* /path"'],
    ['a colon in a text', 'a:\n  b: c: d', '2: has ": " in a text without quotes: put quotes around it'],
    ['a quote that is not closed', 'a:\n  b: "c', '2: is the end of a text with a quote at its beginning only'],
    ['an option beside the dash of its item', 'a:\n  - b: 1\n  c: 2', `3: ${INDENT}`],
  ])('%s', (_, text, problem) => {
    expect(problemsOf(text)).toEqual([problem]);
  });

  test('and a placeholder without quotes is one of block style', () => {
    expect(parsed('a: ${NAME}\nb:\n  - ${NAME:-x}').value).toEqual({ a: '${NAME}', b: ['${NAME:-x}'] });
  });
});

describe('aliases', () => {
  test('may repeat a list in as many tenants as there are, and a problem in it has the line of the list', () => {
    const tenants = Array.from({ length: 2_000 }, (_, i) => `t${i}: { allow: *reads }`);
    const source = parsed(['x: &reads [GET /a, GET /b]', ...tenants].join('\n'));
    expect((source.value as Record<string, unknown>)['t1999']).toEqual({ allow: ['GET /a', 'GET /b'] });
    expect([source.problem(['t1999'], '').line, source.problem(['t1999', 'allow', 1], '').line]).toEqual([2_001, 1]);
  });

  test('that lead into themselves, nowhere, or to more than memory holds are refused with their line', () => {
    const CYCLE = 'is an alias of what it is a part of';
    expect(problemsOf('x: &x [*x, *x]')).toEqual([`1: ${CYCLE}`, `1: ${CYCLE}`]);
    expect(problemsOf('a: 1\nb: &b\n  c: { d: [1, *b] }')).toEqual([`3: ${CYCLE}`]);
    expect(problemsOf('a: &a 1\nb: *c')).toEqual(['2: is an alias, and no anchor before it has its name']);
    const bomb = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++) bomb.push(`a${i}: &a${i} [${Array(10).fill(`*a${i - 1}`)}]`);
    expect(problemsOf(bomb.join('\n'))).toEqual(['6: aliases multiply this file to more than can be read']);
  });

  test('of a name that is there twice mean the latest anchor before them, so that is no cycle', () => {
    expect(parsed('a: &a 1\nb: &a [2]\nc: *a').value).toEqual({ a: 1, b: [2], c: [2] });
    expect(problemsOf('a: &a 1\nb: &a [*a]')).toEqual(['2: is an alias of what it is a part of']);
  });
});

describe('a text that is no configuration is refused, however deep, with nothing of it in the message', () => {
  const DEEP = 'is nested more than 50 levels deep';
  test.each([
    ['lists', '['.repeat(2_000) + ']'.repeat(2_000)],
    ['lists that do not end', '['.repeat(200_000)],
    ['maps', '{a: '.repeat(2_000)],
    ['lists of lists by dashes', '- '.repeat(200_000)],
    ['questions', '? '.repeat(200_000)],
    ['maps of maps on one line', 'a: '.repeat(100_000)],
    ['lists with anchors', '[&a '.repeat(50_000)],
  ])('%s', (_, text) => {
    expect(problemsOf(text)).toEqual([`1: ${DEEP}`]);
  });

  test('indented maps', () => {
    const text = Array.from({ length: 1_000 }, (_, i) => `${' '.repeat(i)}a:\n`).join('');
    expect(problemsOf(text)).toEqual([expect.stringMatching(/^\d+: is nested/)]);
  });

  test('keys that are lists or aliases, tags, directives and further documents', () => {
    expect(problemsOf('? [secret]\n: 1')).toEqual(['1: has a key that is no plain text']);
    expect(problemsOf('a: &a b\n*a : 1')).toEqual(['2: has a key that is no plain text']);
    const READ_NOT = 'has a tag or a directive, which are not read';
    expect(problemsOf('a: !!binary aGVsbG8=\nb: !secret x')).toEqual([`1: ${READ_NOT}`, `2: ${READ_NOT}`]);
    expect(problemsOf('%SECRET x\n---\na: 1')).toEqual([`1: ${READ_NOT}`]);
    expect(problemsOf('a: 1\n---\nb: 2\n---\nc: 3')).toEqual(['2: has more than one document']);
  });
});
