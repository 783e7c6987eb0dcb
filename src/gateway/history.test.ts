import { expect, it } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { type AccountSample, createHistory } from './history.ts';

function setUp(keepMs = 900_000) {
  const clock = new ManualClock();
  let inUse = 0;
  const accounts = new Map<string, () => AccountSample>();
  const sample = (): AccountSample => ({ slotsInUse: inUse, externalUsage: 1, waiting: 2, cooldown: 0 });
  accounts.set('main', sample);
  let samples = 0;
  const history = createHistory({
    clock,
    everyMs: 5_000,
    keepMs,
    read: () => new Map([...accounts].map(([id, read]) => [id, read()])),
    onSample: () => void samples++,
  });
  const next = (value: number) => {
    inUse = value;
    clock.advance(5_000);
  };
  return { clock, history, next, accounts, sample, samples: () => samples };
}

it('a sample is taken at the start and every five seconds, with the time it was taken at', () => {
  const { clock, history, next, samples } = setUp();
  history.start();
  const startedAt = clock.now();
  next(7);
  next(9);
  expect(history.since(0)).toEqual({
    everyMs: 5_000,
    keepMs: 900_000,
    at: [startedAt, startedAt + 5_000, startedAt + 10_000],
    accounts: { main: { slotsInUse: [0, 7, 9], externalUsage: [1, 1, 1], waiting: [2, 2, 2], cooldown: [0, 0, 0] } },
  });
  expect(samples()).toBe(3);
});

it('never keeps more than fits into its time, however long it runs', () => {
  const { history, next } = setUp();
  history.start();
  for (let i = 1; i <= 10_000; i++) next(i);
  const { at, accounts } = history.since(0);
  expect([at.length, accounts['main']?.slotsInUse.length]).toEqual([180, 180]);
  expect(accounts['main']?.slotsInUse.at(-1)).toBe(10_000);
  expect(history.taken()).toBe(10_001);
});

it('gives a reader what it does not have yet: nothing twice, and no more than is kept', () => {
  const { history, next } = setUp(15_000);
  history.start();
  next(1);
  const seen = history.taken();
  expect(history.since(seen).at).toEqual([]);
  next(2);
  expect(history.since(seen).accounts['main']?.slotsInUse).toEqual([2]);
  for (const value of [3, 4, 5]) next(value);
  expect(history.since(seen).accounts['main']?.slotsInUse).toEqual([3, 4, 5]);
});

it('an account that comes or goes with a reload has no numbers where it was not there', () => {
  const { history, next, accounts, sample } = setUp();
  history.start();
  accounts.set('late', sample);
  next(4);
  accounts.delete('main');
  next(5);
  const { main, late } = history.since(0).accounts;
  expect([main?.slotsInUse, late?.slotsInUse]).toEqual([
    [0, 4, null],
    [null, 4, 5],
  ]);
});

it('stops with the gateway, and leaves no timer', () => {
  const { clock, history, next } = setUp();
  history.start();
  history.stop();
  expect(clock.pending).toBe(0);
  next(1);
  expect(history.taken()).toBe(1);
});
