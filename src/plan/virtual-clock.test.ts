import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from './virtual-clock.ts';

test('timers run in the order of their times, those of one time in the order in which they were set, and cancelled ones never', async () => {
  const timers = fc.array(fc.record({ due: fc.nat(50), cancelled: fc.boolean() }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(timers, async (wanted) => {
      const clock = new VirtualClock(1_000);
      const ran: string[] = [];
      const cancels = wanted.map(({ due }, index) =>
        clock.at(1_000 + due, () => void ran.push(`${clock.monotonic()}:${index}`)),
      );
      for (const [index, { cancelled }] of wanted.entries()) if (cancelled) cancels[index]?.();
      await clock.moveTo(1_020);
      await clock.moveTo(1_050);
      const expected = wanted
        .map(({ due, cancelled }, index) => ({ due, cancelled, index }))
        .filter(({ cancelled }) => !cancelled)
        .sort((a, b) => a.due - b.due || a.index - b.index);
      expect(ran).toEqual(expected.map(({ due, index }) => `${due}:${index}`));
      expect(clock.pending).toBe(0);
      expect([clock.now(), clock.monotonic()]).toEqual([1_050, 50]);
    }),
  );
});

test('all that follows from a timer happens before time goes on', async () => {
  const clock = new VirtualClock(0);
  const seen: number[] = [];
  const follow = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) await null;
    seen.push(clock.monotonic());
    clock.after(5, () => seen.push(clock.monotonic()));
  };
  clock.after(10, () => void follow());
  clock.after(11, () => {});
  await clock.moveTo(20);
  expect(seen).toEqual([10, 15]);
});

test('thousands of deadlines that were not met take no memory', async () => {
  const clock = new VirtualClock(0);
  for (let i = 0; i < 100_000; i++) clock.after(i, () => {})();
  expect(clock.nextDue).toBe(Number.POSITIVE_INFINITY);
  expect(clock.pending).toBe(0);
  let ran = false;
  clock.after(200_000, () => {
    ran = true;
  });
  await clock.moveTo(200_000);
  expect(ran).toBe(true);
});
