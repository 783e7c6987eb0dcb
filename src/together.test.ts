import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { together } from './together.ts';

test('what is put off is done at the end of the turn, in its order, and once', async () => {
  const done: string[] = [];
  const put = together((item: string) => void done.push(item));
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
  const put = together((item: number) => void done.push(item), 3);
  for (const item of [1, 2, 3, 4]) put(item);
  expect(done).toEqual([1, 2, 3]);
  await nextTurn();
  expect(done).toEqual([1, 2, 3, 4]);
});

test('what is put off while others are being done has its own turn', async () => {
  const done: string[] = [];
  const put = together((item: string) => {
    done.push(item);
    if (item === 'a') put('b');
  });
  put('a');
  await nextTurn();
  expect(done).toEqual(['a']);
  await nextTurn();
  expect(done).toEqual(['a', 'b']);
});
