import { expect, test } from 'vitest';
import { draw, type Latency, latencyProblem, seededRandom } from './latency.ts';

const CASES: readonly [Latency, { min: number; median: number; max: number }][] = [
  [
    { kind: 'fixed', ms: 20 },
    { min: 20, median: 20, max: 20 },
  ],
  [
    { kind: 'uniform', minMs: 10, maxMs: 30 },
    { min: 10, median: 20, max: 30 },
  ],
  // The median of an exponential is its mean times ln 2.
  [
    { kind: 'exponential', minMs: 10, meanMs: 30, maxMs: 90 },
    { min: 10, median: 10 + 20 * Math.LN2, max: 90 },
  ],
  [
    { kind: 'lognormal', medianMs: 40, sigma: 0.5, maxMs: 200 },
    { min: 0, median: 40, max: 200 },
  ],
];

test.each(CASES)('%j stays in its bounds, with its median', (latency, { min, median, max }) => {
  const random = seededRandom(7);
  const drawn = Array.from({ length: 20_001 }, () => draw(latency, random)).sort((a, b) => a - b);
  expect(drawn[0]).toBeGreaterThanOrEqual(min);
  expect(drawn.at(-1)).toBeLessThanOrEqual(max);
  expect(Math.abs(drawn[10_000]! - median)).toBeLessThan(median * 0.05 + 0.001);
  expect(latencyProblem(latency)).toBeNull();
});

test('the same seed draws the same times', () => {
  const [a, b] = [seededRandom(3), seededRandom(3)];
  const latency = CASES[3]![0];
  expect(Array.from({ length: 50 }, () => draw(latency, a))).toEqual(
    Array.from({ length: 50 }, () => draw(latency, b)),
  );
});

test.each([null, 5, { kind: 'slow' }, { kind: 'fixed' }, { kind: 'fixed', ms: -1 }, { kind: 'uniform', minMs: 1 }])(
  '%j is no latency',
  (value) => {
    expect(latencyProblem(value)).toEqual(expect.any(String));
  },
);
