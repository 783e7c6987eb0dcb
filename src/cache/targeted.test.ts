import { expect, test } from 'vitest';
import { cdnDirectives } from './targeted.ts';

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
