import { expect, test } from 'vitest';
import { heapBytes } from '../../test/support/heap.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { ExpiringSet } from './coalescing.ts';

test('keys as long as callers like cost no more than short ones, and stay distinct', () => {
  const set = new ExpiringSet(new ManualClock());
  const long = (i: number) => `${'x'.repeat(30_000)}${i}`;
  const before = heapBytes();
  for (let i = 0; i < 2_000; i++) set.add(Buffer.from(long(i)).toString('latin1'), 1_000);
  expect(heapBytes() - before).toBeLessThan(5_000_000);
  expect([set.has(long(7)), set.has(long(2_000)), set.size]).toEqual([true, false, 2_000]);
  set.delete(long(7));
  expect(set.has(long(7))).toBe(false);
});

test('keys expire, and the oldest above the bound go first', () => {
  const clock = new ManualClock();
  const set = new ExpiringSet(clock, 100);
  for (let i = 0; i < 150; i++) set.add(`key ${i}`, 1_000);
  expect([set.size, set.has('key 49'), set.has('key 50')]).toEqual([100, false, true]);
  clock.advance(1_001);
  set.add('one more', 1_000);
  expect([set.size, set.has('key 50'), set.has('one more')]).toEqual([100, false, true]);
});
