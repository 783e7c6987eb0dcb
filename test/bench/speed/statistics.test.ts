import { expect, test } from 'vitest';
import { median, percentile, ratios, spread } from './statistics.mjs';

test('the median is the middle, or halfway between the two in the middle, in whatever order they come', () => {
  expect(median([5, 1, 9])).toBe(5);
  expect(median([4, 1, 2, 100])).toBe(3);
  expect(median([10, 9, 100])).toBe(10);
  expect(() => median([])).toThrow();
});

test('the spread is the whole range', () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, least: 1, most: 3 });
});

test('ratios are of the same turn: a machine that slows down for a turn changes none', () => {
  expect(ratios([100, 20, 100], [200, 40, 200])).toEqual({ median: 0.5, least: 0.5, most: 0.5 });
  expect(() => ratios([1, 2], [1])).toThrow('2 rounds beside 1');
});

test('a percentile is a value that was measured, by nearest rank', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  expect([0.5, 0.99, 0.999, 1].map((share) => percentile(hundred, share))).toEqual([50, 99, 100, 100]);
  expect(percentile([7], 0.5)).toBe(7);
});
