import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EpochMs } from '../clock.ts';
import { Calendar, isLongOver, isTimeZone, type PeriodKind } from './budget-period.ts';

const at = (text: string): EpochMs => Date.parse(text) as EpochMs;
const iso = (time: EpochMs): string => new Date(time).toISOString();
const HOUR = 3_600_000;

function period(kind: PeriodKind, timeZone: string, now: string) {
  const { label, startsAt, endsAt } = new Calendar(timeZone).period(kind, at(now));
  return { label, from: iso(startsAt), to: iso(endsAt), hours: (endsAt - startsAt) / HOUR };
}

describe('a period', () => {
  test.each([
    ['the last moment of a month', 'UTC', '2026-11-30T23:59:59.999Z', '2026-11', '2026-11-01', '2026-12-01', 720],
    ['the first moment of a month', 'UTC', '2026-12-01T00:00:00Z', '2026-12', '2026-12-01', '2027-01-01', 744],
    ['February of a leap year', 'UTC', '2028-02-29T12:00:00Z', '2028-02', '2028-02-01', '2028-03-01', 696],
    ['February of another year', 'UTC', '2027-02-28T12:00:00Z', '2027-02', '2027-02-01', '2027-03-01', 672],
  ])('of a month has its days: %s', (_, timeZone, now, label, from, to, hours) => {
    const day = (date: string) => `${date}T00:00:00.000Z`;
    expect(period('month', timeZone, now)).toEqual({ label, from: day(from), to: day(to), hours });
  });

  test.each([
    ['forward', 'Europe/London', '2026-03-29T12:00:00Z', '2026-03-29T00:00:00.000Z', '2026-03-29T23:00:00.000Z', 23],
    ['back', 'Europe/London', '2026-10-25T12:00:00Z', '2026-10-24T23:00:00.000Z', '2026-10-26T00:00:00.000Z', 25],
    // Midnight of that day does not exist.
    [
      'forward at midnight',
      'Africa/Cairo',
      '2026-04-24T12:00:00Z',
      '2026-04-23T22:00:00.000Z',
      '2026-04-24T21:00:00.000Z',
      23,
    ],
    // The last hour of the day comes twice.
    [
      'back at midnight',
      'Africa/Cairo',
      '2026-10-29T12:00:00Z',
      '2026-10-28T21:00:00.000Z',
      '2026-10-29T22:00:00.000Z',
      25,
    ],
    [
      'by half an hour',
      'Australia/Lord_Howe',
      '2026-10-04T00:00:00Z',
      '2026-10-03T13:30:00.000Z',
      '2026-10-04T13:00:00.000Z',
      23.5,
    ],
    [
      'not at all',
      'Asia/Kathmandu',
      '2026-10-04T00:00:00Z',
      '2026-10-03T18:15:00.000Z',
      '2026-10-04T18:15:00.000Z',
      24,
    ],
  ])('of a day ends at midnight of its time zone when the clocks go %s', (_, timeZone, now, from, to, hours) => {
    expect(period('day', timeZone, now)).toMatchObject({ from, to, hours });
  });

  test('of a month with daylight saving is an hour shorter or longer', () => {
    expect(period('month', 'Europe/London', '2026-03-15T00:00:00Z').hours).toBe(31 * 24 - 1);
    expect(period('month', 'Europe/London', '2026-10-15T00:00:00Z').hours).toBe(31 * 24 + 1);
    expect(period('month', 'America/New_York', '2026-11-01T03:59:59Z').label).toBe('2026-10');
    expect(period('month', 'America/New_York', '2026-11-01T04:00:00Z').label).toBe('2026-11');
  });

  test('follows the one before it without a gap, whatever the time zone and the date', () => {
    const zones = Intl.supportedValuesOf('timeZone');
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        fc.constantFrom('day' as const, 'month' as const),
        fc.integer({ min: at('2020-01-01T00:00:00Z'), max: at('2035-01-01T00:00:00Z') }),
        (zone, kind, now) => {
          const calendar = new Calendar(zone);
          const present = calendar.period(kind, now as EpochMs);
          expect(present.startsAt).toBeLessThanOrEqual(now);
          expect(present.endsAt).toBeGreaterThan(now);
          const next = calendar.period(kind, present.endsAt);
          expect(next.startsAt).toBe(present.endsAt);
          expect(next.label > present.label).toBe(true);
          expect(calendar.period(kind, (present.startsAt - 1) as EpochMs).endsAt).toBe(present.startsAt);
          expect(calendar.period(kind, now as EpochMs)).toEqual(present);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('is found again after the clock was set back', () => {
    const calendar = new Calendar('UTC');
    expect(calendar.period('month', at('2026-12-01T00:00:00Z')).label).toBe('2026-12');
    expect(calendar.period('month', at('2026-11-30T23:59:00Z')).label).toBe('2026-11');
  });
});

test.each([
  ['UTC', true],
  ['Europe/London', true],
  ['Mars/Olympus', false],
  ['+02:00', false],
  ['', false],
])('%j as a time zone: %s', (name, valid) => {
  expect(isTimeZone(name)).toBe(valid);
});

test('counts are kept for some days after a day, and for more than a month after a month', () => {
  expect(isLongOver('2026-11-30', at('2026-12-03T23:00:00Z'))).toBe(false);
  expect(isLongOver('2026-11-30', at('2026-12-04T01:00:00Z'))).toBe(true);
  expect(isLongOver('2026-11', at('2027-01-09T00:00:00Z'))).toBe(false);
  expect(isLongOver('2026-11', at('2027-01-11T00:00:00Z'))).toBe(true);
  // A clock that was set back finds the counts of the future as they are.
  expect(isLongOver('2030-01', at('2026-12-04T01:00:00Z'))).toBe(false);
});
