import { expect, test } from 'vitest';
import { documentWith, lineOf } from './table.mjs';
import type { Row } from './types.ts';

const ROW: Row = {
  fault: 'redis-hung',
  about: 'stopped',
  state: 'alone',
  requests: 1_200,
  saw: { '503 state_unavailable': 3, '200': 40, '201': 2 },
  recoveryMs: 1_240,
  greatestIn60s: 59,
  ceiling: 60,
  duplicates: 0,
  forgotten: 0,
  lost: 0,
  mixed: 0,
  leaks: [],
  violations: [],
};
const EMPTY = 'Before.\n\n<!-- rows: npm run test:chaos -- --write -->\n<!-- end of rows -->\n\nAfter.\n';
const ORDER = ['redis-hung alone', 'redis-hung cluster', 'other alone'];

test('a row says what was seen, what is normal first', () => {
  expect(lineOf(ROW)).toBe(
    '| `redis-hung`: stopped | alone | 1200 | 42 × 2xx, 3 × 503 state_unavailable | 1.2 s | 59 of 60 | 0 | 0, 0 | nothing |',
  );
});

test('one that did not hold says so', () => {
  expect(lineOf({ ...ROW, recoveryMs: null, violations: ['write w1 arrived more than once'] })).toMatch(
    /\| not \|.*NOT HELD: write w1 arrived more than once/,
  );
});

test('rows are put in the order of the faults, and a later run takes the place of its own rows alone', () => {
  const first = documentWith(EMPTY, [{ ...ROW, fault: 'other' }, ROW, { ...ROW, fault: 'gone' }], ORDER);
  const second = documentWith(
    first,
    [
      { ...ROW, requests: 7 },
      { ...ROW, state: 'cluster' },
    ],
    ORDER,
  );
  const rows = second.split('\n').filter((line) => line.startsWith('| `'));
  expect(
    rows.map((line) =>
      line
        .split('|')
        .slice(1, 4)
        .map((cell) => cell.trim()),
    ),
  ).toEqual([
    ['`redis-hung`: stopped', 'alone', '7'],
    ['`redis-hung`: stopped', 'cluster', '1200'],
    ['`other`: stopped', 'alone', '1200'],
  ]);
  expect(second).toMatch(/^Before\.\n/);
  expect(second).toMatch(/\nAfter\.\n$/);
});

test('a document without its markers is left alone', () => {
  expect(() => documentWith('nothing', [ROW], ORDER)).toThrow('no markers');
});
