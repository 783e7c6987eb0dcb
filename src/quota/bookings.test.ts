import { describe, expect, test } from 'vitest';
import { Bookings, LAPSE_MS } from './bookings.ts';

describe('appointments', () => {
  test('are used in the order of their times, each once, and none before its time', () => {
    const bookings = new Bookings();
    for (const at of [3_000, 1_000, 2_000]) expect(bookings.appoint('a', at, true)).toBe(true);
    expect(bookings.appointments('a')).toEqual([1_000, 2_000, 3_000]);
    expect(bookings.use('a', 999)).toBe(false);
    expect(bookings.use('a', 1_000)).toBe(true);
    expect(bookings.use('a', 1_000)).toBe(false);
    expect(bookings.use('a', 2_500)).toBe(true);
    expect(bookings.appointments('a')).toEqual([3_000]);
  });

  test('are those of one tenant: another cannot use them', () => {
    const bookings = new Bookings();
    bookings.appoint('a', 1_000, true);
    expect(bookings.use('b', 5_000)).toBe(false);
    expect(bookings.appointments('b')).toEqual([]);
    expect(bookings.use('a', 1_000)).toBe(true);
  });

  test('lapse two seconds after their time', () => {
    const bookings = new Bookings();
    for (const at of [1_000, 2_000]) bookings.appoint('a', at, true);
    bookings.expire(1_000 + LAPSE_MS);
    expect(bookings.appointments('a')).toEqual([1_000, 2_000]);
    bookings.expire(1_001 + LAPSE_MS);
    expect(bookings.appointments('a')).toEqual([2_000]);
    bookings.expire(60_000);
    expect([bookings.appointments('a'), bookings.competing()]).toEqual([[], []]);
  });

  test('are a thousand of a tenant at most', () => {
    const bookings = new Bookings();
    for (let i = 0; i < 1_000; i++) expect(bookings.appoint('a', i, true)).toBe(true);
    expect(bookings.appoint('a', 5_000, true)).toBe(false);
    expect(bookings.appoint('b', 5_000, true)).toBe(true);
    bookings.use('a', 0);
    expect(bookings.appoint('a', 5_000, true)).toBe(true);
  });
});

describe('requests that wait', () => {
  test('are counted by tenant, and those before a rank', () => {
    const bookings = new Bookings();
    bookings.wait('a', { rank: 100, until: 9_000, isNewcomer: false }, true);
    const second = bookings.wait('a', { rank: 200, until: 9_000, isNewcomer: false }, true);
    bookings.wait('b', { rank: 50, until: 9_000, isNewcomer: false }, true);
    expect([
      bookings.waiting('a'),
      bookings.waiting('a', 200, second),
      bookings.waiting('b'),
      bookings.waiting('c'),
    ]).toEqual([2, 1, 1, 0]);
    expect(bookings.waitingAt('a', second)?.rank).toBe(200);
    expect(bookings.waitingAt('b', second)).toBeUndefined();
    expect(bookings.waitingAt('a', undefined)).toBeUndefined();
  });

  test('that ask no more are in no way', () => {
    const bookings = new Bookings();
    const id = bookings.wait('a', { rank: 100, until: 9_000, isNewcomer: false }, true);
    bookings.cancel('b', id);
    expect(bookings.waiting('a')).toBe(1);
    bookings.cancel('a', id);
    bookings.cancel('a', id);
    expect([bookings.waiting('a'), bookings.competing()]).toEqual([0, []]);
  });

  test('lapse two seconds after they would have asked for the last time: their replica is gone', () => {
    const bookings = new Bookings();
    bookings.wait('a', { rank: 100, until: 1_000, isNewcomer: false }, true);
    bookings.wait('a', { rank: 100, until: 4_000, isNewcomer: false }, true);
    bookings.expire(1_000 + LAPSE_MS);
    expect(bookings.waiting('a')).toBe(2);
    bookings.expire(1_001 + LAPSE_MS);
    expect(bookings.waiting('a')).toBe(1);
  });
});

test('only tenants that are not held back by their own rate compete, as of their latest booking', () => {
  const bookings = new Bookings();
  bookings.appoint('a', 1_000, true);
  bookings.wait('b', { rank: 1, until: 1_000, isNewcomer: false }, true);
  bookings.appoint('own rate', 1_000, false);
  expect(bookings.competing()).toEqual(['a', 'b']);
  bookings.appoint('a', 2_000, false);
  bookings.forget('b');
  expect(bookings.competing()).toEqual([]);
});

describe('the caller of a slot', () => {
  test('comes later by the part of the slots that newcomers were given, half at most', () => {
    const bookings = new Bookings();
    expect(bookings.appointmentMs(60_000, 0, 250)).toBe(60_000);
    for (let i = 0; i < 1_000; i++) bookings.admittedBeside(i % 5 === 0);
    expect(bookings.appointmentMs(60_000, 0, 250)).toBeGreaterThan(68_000);
    expect(bookings.appointmentMs(60_000, 0, 250)).toBeLessThan(78_000);
    for (let i = 0; i < 1_000; i++) bookings.admittedBeside(true);
    expect(bookings.appointmentMs(60_000, 0, 0)).toBe(120_000);
    // Less six slots a minute.
    expect(bookings.appointmentMs(60_000, 0, 250)).toBeCloseTo(60_000 / 0.525);
    for (let i = 0; i < 1_000; i++) bookings.admittedBeside(false);
    expect(bookings.appointmentMs(60_000, 0, 250)).toBeCloseTo(60_000, 0);
  });

  test('comes a little early, if its requests may wait for so long', () => {
    const bookings = new Bookings();
    expect([0, 300, 1_000, 5_000].map((maxWaitMs) => bookings.appointmentMs(60_000, maxWaitMs, 250))).toEqual([
      60_000, 59_700, 59_000, 58_500,
    ]);
    expect(bookings.appointmentMs(60_000, 5_000, 2_000)).toBe(56_000);
  });
});
