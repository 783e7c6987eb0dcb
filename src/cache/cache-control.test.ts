import { describe, expect, test } from 'vitest';
import {
  cdnDirectives,
  fieldsOf,
  invalidFreshnessHeaders,
  parseDirectives,
  parseHttpDate,
  secondsOf,
} from './cache-control.ts';

describe('Cache-Control', () => {
  test.each<[string, [string, string | null][]]>([
    [
      'NO-Store, Max-Age=5',
      [
        ['no-store', null],
        ['max-age', '5'],
      ],
    ],
    [
      'private="set-cookie, x", max-age="5"',
      [
        ['private', 'set-cookie, x'],
        ['max-age', '5'],
      ],
    ],
    [' , ,no-cache,', [['no-cache', null]]],
    ['x="unclosed, no-store', [['no-store', null]]],
    ['???=, @, no-store', [['no-store', null]]],
    ['', []],
  ])('%j is read without losing a directive', (field, expected) => {
    expect([...parseDirectives(field)]).toEqual(expected);
  });

  test('a comma in quotes hides no directive and makes none', () => {
    expect(parseDirectives('ext="a, no-store", max-age=1').has('no-store')).toBe(false);
  });

  test.each([
    ['max-age=5', 5],
    ['max-age="5"', 5],
    ['max-age=5, max-age=5', 5],
    ['max-age=5, max-age=6', 0],
    ['max-age', 0],
    ['max-age=', 0],
    ['max-age=-1', 0],
    ['max-age=5.5', 0],
    ['max-age=5s', 0],
    ['max-age=99999999999999', 2 ** 31],
    ['s-maxage=5', null],
  ])('%s: %s seconds', (field, seconds) => expect(secondsOf(parseDirectives(field), 'max-age')).toBe(seconds));

  test.each([
    'a="x\\",'.repeat(200_000),
    ',a="'.repeat(200_000),
    `a="${'\\"'.repeat(400_000)}`,
    'a,'.repeat(400_000),
    `${' '.repeat(800_000)}`,
  ])('a hostile field of 800 KB is read in one pass: %.10j', (field) => {
    // Quadratic time would be some 10¹¹ steps, and the test would never end.
    expect(parseDirectives(field).size).toBeLessThan(2);
  });
});

test.each([
  ['Sun, 06 Nov 1994 08:49:37 GMT', 784111777000],
  ['Sunday, 06-Nov-94 08:49:37 GMT', 784111777000],
  ['Sun Nov  6 08:49:37 1994', 784111777000],
  ['0', null],
  ['Sun, 06 Nov 1994 08:49:37', null],
  ['Sun, 06 Nov 1994 08:49:37 CET', null],
  ['Sun, 06 Nov 1994 8:49:37 GMT', null],
  ['1994-11-06T08:49:37Z', null],
  ['Sunday, 18-Aug-50 02:01:18 GMT', Date.UTC(2050, 7, 18, 2, 1, 18)],
  ['Friday, 18-Aug-95 02:01:18 GMT', Date.UTC(1995, 7, 18, 2, 1, 18)],
])('the date %j is %s', (text, epochMs) => expect(parseHttpDate(text)).toBe(epochMs));

describe('CDN-Cache-Control', () => {
  test.each<[string, [string, string | null][]]>([
    [
      'max-age=60, private',
      [
        ['max-age', '60'],
        ['private', null],
      ],
    ],
    [
      'no-store;a=1, foo=bar',
      [
        ['no-store', null],
        ['foo', null],
      ],
    ],
    ['private=?0, max-age=1', [['max-age', '1']]],
  ])('%s', (field, expected) => expect([...(cdnDirectives(field) ?? [])]).toEqual(expected));

  test.each([undefined, '', 'max-age=60, &&&', 'max-age="60"', 'max-age=-1', 'max-age', 'max-age=1.5', 'Max-Age=60'])(
    '%j says nothing',
    (field) => expect(cdnDirectives(field)).toBeNull(),
  );
});

describe('invalid freshness fields', () => {
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
});
