import { expect, it } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createLineLimit } from './line-limit.ts';

it('writes a few lines of each key and a bounded number of all in a minute, and then says how many it left out', () => {
  const clock = new ManualClock();
  const written: string[] = [];
  const leftOut: number[] = [];
  const limited = createLineLimit({ clock, perKey: 2, total: 5, onLeftOut: (lines) => void leftOut.push(lines) });
  const write = (key: string) => limited(key, () => void written.push(key));
  for (const key of ['a', 'a', 'a', 'b', 'c', 'd', 'e']) write(key);
  expect(written).toEqual(['a', 'a', 'b', 'c', 'd']);
  for (let i = 0; i < 100_000; i++) write(`k${i}`);
  expect(written).toHaveLength(5);
  clock.advance(60_000);
  expect(leftOut).toEqual([100_002]);
  write('a');
  expect(written).toHaveLength(6);
  clock.advance(60_000);
  expect(leftOut).toEqual([100_002]);
});
