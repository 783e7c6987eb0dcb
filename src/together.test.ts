import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { inARow, together } from './together.ts';

test('what is put off is done at the end of the turn, in its order, and once', async () => {
  const done: string[] = [];
  const put = inARow((item: string) => void done.push(item));
  put('a');
  put('b');
  await Promise.resolve();
  process.nextTick(() => put('c'));
  expect(done).toEqual([]);
  await nextTurn();
  expect(done).toEqual(['a', 'b', 'c']);
  await nextTurn();
  expect(done).toEqual(['a', 'b', 'c']);
});

test('as many as are said are done at once, and those behind them at the end', async () => {
  const done: number[] = [];
  const put = inARow((item: number) => void done.push(item), 3);
  for (const item of [1, 2, 3, 4]) put(item);
  expect(done).toEqual([1, 2, 3]);
  await nextTurn();
  expect(done).toEqual([1, 2, 3, 4]);
});

test('what is put off while others are being done has its own turn', async () => {
  const done: string[] = [];
  const put = inARow((item: string) => {
    done.push(item);
    if (item === 'a') put('b');
  });
  put('a');
  await nextTurn();
  expect(done).toEqual(['a']);
  await nextTurn();
  expect(done).toEqual(['a', 'b']);
});

test('what can be done for all at once is told all of them, and never that there is nothing', async () => {
  const calls: (readonly string[])[] = [];
  const put = together((items: readonly string[]) => void calls.push(items), 2);
  for (const item of ['a', 'b', 'c']) put(item);
  await nextTurn();
  put('d');
  await nextTurn();
  expect(calls).toEqual([['a', 'b'], ['c'], ['d']]);
});
