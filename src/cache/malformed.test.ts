import { expect, test } from 'vitest';
import { invalidFreshnessHeaders } from './malformed.ts';
import { fieldsOf } from './stored-headers.ts';

const DAY = 'Thu, 26 Nov 2026 05:40:31 GMT';

test.each<[name: string, fields: string[], malformed: string[]]>([
  ['nothing said', [], []],
  ['all as it should be', ['Cache-Control', 'public, max-age=60', 'Date', DAY, 'Expires', DAY, 'Age', '3'], []],
  ['already expired, as it is often written', ['Expires', '0'], []],
  ['the same by a negative number', ['Expires', '-1'], []],
  ['a lifetime in words', ['Cache-Control', 'max-age=soon'], ['cache-control']],
  ['a negative lifetime', ['Cache-Control', 's-maxage=-5'], ['cache-control']],
  ['a lifetime without a value', ['Cache-Control', 'max-age'], ['cache-control']],
  ['two lifetimes that disagree', ['Cache-Control', 'max-age=1', 'Cache-Control', 'max-age=2'], ['cache-control']],
  ['the same lifetime twice', ['Cache-Control', 'max-age=1, max-age=1'], []],
  ['two ages', ['Age', '1', 'Age', '2'], ['age']],
  ['an age with a fraction', ['Age', '1.5'], ['age']],
  [
    'dates that are none',
    ['Date', 'yesterday', 'Last-Modified', '2026-11-26', 'Expires', 'never'],
    ['date', 'expires', 'last-modified'],
  ],
])('%s', (_, list, expected) => {
  expect(invalidFreshnessHeaders(fieldsOf(list))).toEqual(expected);
});
