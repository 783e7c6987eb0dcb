import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createRestarts, MOST_ENDS, WITHIN_MS } from './restarts.ts';

test('a worker that ends now and then is started again at once, for ever', () => {
  const clock = new ManualClock();
  const restarts = createRestarts(clock);
  for (let i = 0; i < 100; i++) {
    expect(restarts.ended(1)).toEqual({ kind: 'again', afterMs: 100 });
    clock.advance(WITHIN_MS);
  }
});

test('one that ends again and again waits longer each time, and others do not wait for it', () => {
  const clock = new ManualClock();
  const restarts = createRestarts(clock);
  const pauses = Array.from({ length: 8 }, () => restarts.ended(1)).map(
    (each) => each.kind === 'again' && each.afterMs,
  );
  expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  expect(restarts.ended(2)).toEqual({ kind: 'again', afterMs: 100 });
});

test('too many ends within a minute, of whichever worker, are the end', () => {
  const clock = new ManualClock();
  const restarts = createRestarts(clock);
  for (let i = 1; i < MOST_ENDS; i++) expect(restarts.ended(i % 3).kind).toBe('again');
  clock.advance(WITHIN_MS - 1);
  expect(restarts.ended(1)).toEqual({ kind: 'give up', ends: MOST_ENDS, withinMs: WITHIN_MS });
});
