import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { batch, systemClock } from './clock.ts';

afterEach(() => vi.restoreAllMocks());

test('the monotonic clock does not follow when the wall clock is set, and the other one does', () => {
  const [before, monotonic] = [Date.now(), systemClock.monotonic()];
  vi.spyOn(Date, 'now').mockReturnValue(before + 3_600_000);
  expect(systemClock.now()).toBe(before + 3_600_000);
  const ahead = systemClock.monotonic();
  vi.spyOn(Date, 'now').mockReturnValue(before - 3_600_000);
  const back = systemClock.monotonic();
  expect(ahead - monotonic).toBeLessThan(1_800_000);
  expect(ahead).toBeGreaterThanOrEqual(monotonic);
  expect(back).toBeGreaterThanOrEqual(ahead);
});

function recorded(maxItems?: number) {
  const calls: (readonly string[])[] = [];
  const put = batch((items: readonly string[]) => void calls.push(items), maxItems);
  return { calls, put };
}

test('items of one turn are handed over at its end, in their order, and once', async () => {
  const { calls, put } = recorded();
  put('a');
  put('b');
  await Promise.resolve();
  process.nextTick(() => put('c'));
  expect(calls).toEqual([]);
  await nextTurn();
  await nextTurn();
  expect(calls).toEqual([['a', 'b', 'c']]);
});

test('a full batch does not wait, and the items behind it go at the end of the turn', async () => {
  const { calls, put } = recorded(2);
  for (const item of ['a', 'b', 'c']) put(item);
  expect(calls).toEqual([['a', 'b']]);
  await nextTurn();
  put('d');
  await nextTurn();
  expect(calls).toEqual([['a', 'b'], ['c'], ['d']]);
});

test('an item that comes while a batch is handed over goes with the next turn', async () => {
  const calls: (readonly string[])[] = [];
  const put = batch((items: readonly string[]) => {
    calls.push(items);
    if (items.includes('a')) put('b');
  });
  put('a');
  await nextTurn();
  expect(calls).toEqual([['a']]);
  await nextTurn();
  expect(calls).toEqual([['a'], ['b']]);
});
