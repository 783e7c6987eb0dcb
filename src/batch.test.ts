import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { batch } from './batch.ts';

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
