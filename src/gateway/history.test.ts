import { expect, it } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { NO_USAGE, type Usage } from '../telemetry/metrics.ts';
import { type AccountSample, createHistory } from './history.ts';

function setUp() {
  const clock = new ManualClock();
  let inUse = 0;
  const accounts = new Map<string, () => AccountSample>();
  const sample = (): AccountSample => ({ slotsInUse: inUse, externalUsage: 1, waiting: 2, cooldown: 0 });
  accounts.set('main', sample);
  const usages = new Map<string, Usage>();
  const history = createHistory({
    clock,
    readAccounts: () => new Map([...accounts].map(([id, read]) => [id, read()])),
    readUsage: () => new Map([...usages].map(([id, usage]) => [id, { ...usage }])),
  });
  const next = (value: number) => {
    inUse = value;
    clock.advance(5_000);
  };
  const use = (tenant: string, requests: number, refused = 0) => {
    const known = usages.get(tenant) ?? NO_USAGE;
    usages.set(tenant, { ...known, requests: known.requests + requests, refused: known.refused + refused });
  };
  const requests = (tenant: string) => history.recent().byTenant.get(tenant)?.requests;
  return { clock, history, next, accounts, sample, usages, use, requests };
}

it('a sample is taken at the start and every five seconds, with the time it was taken at', () => {
  const { clock, history, next } = setUp();
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
  const { history, next } = setUp();
  history.start();
  next(1);
  const seen = history.taken();
  expect(history.since(seen).at).toEqual([]);
  next(2);
  expect(history.since(seen).accounts['main']?.slotsInUse).toEqual([2]);
  for (let value = 3; value <= 183; value++) next(value);
  const { slotsInUse = [] } = history.since(seen).accounts['main'] ?? {};
  expect([slotsInUse.length, slotsInUse[0], slotsInUse.at(-1)]).toEqual([180, 4, 183]);
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

it('counts what tenants used since the start, up to this moment, and says how long that is', () => {
  const { clock, history, use } = setUp();
  history.start();
  use('billing', 5, 2);
  clock.advance(12_000);
  expect(history.recent().seconds).toBe(12);
  expect(history.recent().byTenant.get('billing')).toMatchObject({ requests: 5, refused: 2 });
});

it('forgets use after five minutes, and never reaches back further', () => {
  const { clock, history, use, requests } = setUp();
  history.start();
  use('billing', 100);
  clock.advance(269_000);
  expect(requests('billing')).toBe(100);
  use('billing', 7);
  clock.advance(30_000);
  expect(requests('billing')).toBe(7);
  clock.advance(1_500_000);
  expect(requests('billing')).toBe(0);
  for (let second = 0; second < 30; second++) {
    clock.advance(1_000);
    expect(history.recent().seconds).toBeLessThanOrEqual(300);
    expect(history.recent().seconds).toBeGreaterThanOrEqual(270);
  }
});

it('a tenant that was removed and came back counts from zero, never below', () => {
  const { clock, history, usages, use, requests } = setUp();
  history.start();
  use('billing', 100);
  clock.advance(30_000);
  usages.delete('billing');
  use('billing', 3);
  clock.advance(270_000);
  expect(requests('billing')).toBe(3);
});
