import { expect, test } from 'vitest';
import { readIdempotencyKey } from './idempotency.ts';

const keyOf = (values: readonly string[], method = 'POST') =>
  readIdempotencyKey({
    method,
    rawHeaders: ['X-Other', 'x', ...values.flatMap((value) => ['idempotency-KEY', value])],
  });

test.each([
  ['8e03978e-40d5-43e8-bc93-6894a57f9324', '8e03978e-40d5-43e8-bc93-6894a57f9324'],
  ['"8e03978e"', '8e03978e'],
  [' abc ', 'abc'],
  ['"a\\"b\\\\c"', 'a"b\\c'],
  ['a"b', 'a"b'],
  ['k'.repeat(255), 'k'.repeat(255)],
])('%s is the key %s', (value, key) => expect(keyOf([value])).toEqual({ kind: 'key', key }));

test.each([
  [''],
  ['""'],
  ['"'],
  ['"open'],
  ['"a\\n"'],
  ['a b'],
  ['a, b'],
  ['k'.repeat(256)],
  ['schl\u00fcssel'],
  ['a\tb'],
  ['a\u007f'],
])('%j is malformed', (value) => {
  expect(keyOf([value])).toMatchObject({ kind: 'malformed' });
});

test('several keys are malformed, even if they are equal', () => {
  expect(keyOf(['a', 'a'])).toMatchObject({ kind: 'malformed' });
});

test('every method that is not safe has a key', () => {
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'MKCOL', 'PROPPATCH', 'LOCK', 'LINK', 'M-SEARCH'])
    expect(keyOf(['a'], method)).toMatchObject({ kind: 'key' });
  for (const method of ['GET', 'HEAD', 'OPTIONS']) expect(keyOf(['a'], method)).toEqual({ kind: 'none' });
  expect(keyOf([])).toEqual({ kind: 'none' });
});
