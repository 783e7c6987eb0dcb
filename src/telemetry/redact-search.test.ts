import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createStringReplacer } from './redact.ts';

/** At every place, every string. */
function slowly(strings: readonly string[], text: string): string {
  const longest = [...strings].sort((a, b) => b.length - a.length);
  let out = '';
  for (let at = 0; at < text.length; ) {
    const match = longest.find((each) => text.startsWith(each, at));
    out += match === undefined ? text[at] : '#';
    at += match?.length ?? 1;
  }
  return out;
}

describe('every occurrence is replaced, as by a search at every place', () => {
  // Few characters: strings overlap, repeat and begin alike.
  const some = (maxLength: number) =>
    fc.string({ unit: fc.constantFrom('a', 'b', 'ä', '\ud83d'), minLength: 1, maxLength });

  test.each([3, 8, 40])('of strings of up to %i characters', (maxLength) => {
    fc.assert(
      fc.property(fc.array(some(maxLength), { maxLength: 12 }), some(300), (strings, text) => {
        expect(createStringReplacer(strings, '#')(text)).toBe(slowly(strings, text));
      }),
      { numRuns: 2_000 },
    );
  });

  test('wherever a string stands in the text', () => {
    const strings = Array.from({ length: 500 }, (_, i) => `secret-of-number-${i}-${'x'.repeat(i % 40)}`);
    const replace = createStringReplacer(strings, '#');
    for (let before = 0; before < 60; before++) {
      const [front, back] = ['.'.repeat(before), '.'.repeat(60 - before)];
      for (const each of strings) expect(replace(front + each + back)).toBe(`${front}#${back}`);
    }
  });
});

test('the very text comes back where nothing is found, and where there is nothing to find', () => {
  expect(createStringReplacer([], '#')('text')).toBe('text');
  expect(createStringReplacer(['other'], '#')('text')).toBe('text');
  expect(createStringReplacer(['a'], '#')('')).toBe('');
});

test('an occurrence that does not count leaves the next one to be found, and a shorter one', () => {
  const alone = createStringReplacer(
    ['ab', 'abc'],
    '#',
    (text, from, to) => text[from - 1] !== 'x' && text[to] !== 'x',
  );
  expect(alone('xab ab abcx abx abc')).toBe('xab # #cx abx #');
});

test('100,000 strings of 8 KiB of one text are no reason to fail', () => {
  const replace = createStringReplacer(
    Array.from({ length: 100_000 }, (_, i) => `secret-${i}-`.padEnd(i % 100 === 0 ? 8_192 : 20, '.')),
    '#',
  );
  expect(replace(`a ${'secret-777-'.padEnd(20, '.')} b`)).toBe('a # b');
});
