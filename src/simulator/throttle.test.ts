import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { SlidingMaximum } from './record.ts';
import { DEFAULT_SWITCHES } from './switches.ts';
import { Throttle } from './throttle.ts';

const START = Date.parse('2026-11-02T09:00:00Z');

function throttleAt(startMs = START, switches = {}) {
  const clock = new ManualClock(startMs);
  const throttle = new Throttle(clock, { ...DEFAULT_SWITCHES, ...switches });
  const hits = (count: number) => Array.from({ length: count }, () => throttle.hit('main', 240));
  return { clock, throttle, hits };
}

const fieldsOf = (headers: readonly string[]) =>
  Object.fromEntries(headers.flatMap((name, at) => (at % 2 === 0 ? [[name, headers[at + 1]]] : [])));

describe('the window', () => {
  test('lets exactly the limit through and refuses the next', () => {
    const { hits } = throttleAt();
    expect(hits(240).filter((verdict) => verdict.rejected)).toHaveLength(0);
    expect(hits(3).every((verdict) => verdict.rejected)).toBe(true);
  });

  test('is opened by the first request, not by the clock: it ends 60 s after that, to the millisecond', () => {
    const { clock, hits } = throttleAt();
    clock.advance(45_000);
    hits(240);
    clock.advance(59_999);
    expect(hits(1)[0]?.rejected).toBe(true);
    clock.advance(1);
    expect(hits(240).filter((verdict) => verdict.rejected)).toHaveLength(0);
  });

  test('does not slide: twice the limit passes within a second around its end', () => {
    const { clock, hits } = throttleAt();
    hits(1);
    clock.advance(59_500);
    hits(239);
    clock.advance(500);
    expect(hits(240).every((verdict) => !verdict.rejected)).toBe(true);
  });

  test('a rejected request neither counts nor keeps the window closed', () => {
    const { clock, hits } = throttleAt();
    hits(240);
    for (let second = 0; second < 60; second++) {
      hits(50);
      clock.advance(1_000);
    }
    expect(fieldsOf(hits(1)[0]!.headers)).toEqual({ 'X-RateLimit-Limit': '240', 'X-RateLimit-Remaining': '239' });
  });

  test('is not ended by a step of the wall clock', () => {
    const { clock, hits } = throttleAt();
    hits(240);
    clock.stepWall(3_600_000);
    expect(hits(1)[0]?.rejected).toBe(true);
  });

  test('is used up by others too, who get no more than is left', () => {
    const { throttle, hits } = throttleAt();
    hits(40);
    expect(throttle.use('main', 240, 150)).toBe(150);
    expect(fieldsOf(hits(1)[0]!.headers)['X-RateLimit-Remaining']).toBe('49');
    expect(throttle.use('main', 240, 1_000)).toBe(49);
    expect(hits(1)[0]?.rejected).toBe(true);
  });
});

describe('a rejection', () => {
  const rejectionAfter = (openedAtMs: number, afterMs: number) => {
    const { clock, hits } = throttleAt(START + openedAtMs);
    hits(240);
    clock.advance(afterMs);
    const [verdict] = hits(1);
    expect(verdict?.rejected).toBe(true);
    return fieldsOf(verdict!.headers);
  };

  // Worked out by hand from Laravel's arithmetic in whole seconds.
  test.each([
    { openedAtMs: 100, afterMs: 0, seconds: '60' },
    { openedAtMs: 100, afterMs: 30_000, seconds: '30' },
    { openedAtMs: 900, afterMs: 200, seconds: '59' },
    { openedAtMs: 900, afterMs: 59_050, seconds: '1' },
    { openedAtMs: 900, afterMs: 59_100, seconds: '0' },
    { openedAtMs: 900, afterMs: 59_999, seconds: '0' },
  ])('tells whole seconds that may be too few: $seconds after $afterMs ms', ({ openedAtMs, afterMs, seconds }) => {
    expect(rejectionAfter(openedAtMs, afterMs)).toEqual({
      'X-RateLimit-Limit': '240',
      'X-RateLimit-Remaining': '0',
      'Retry-After': seconds,
      'X-RateLimit-Reset': String(START / 1000 + 60),
    });
  });

  test('of an ingress carries none of the fields', () => {
    const { hits } = throttleAt(START, { bareThrottle: true });
    hits(240);
    expect(hits(1)[0]).toEqual({ rejected: true, headers: [] });
  });
});

describe('limit headers', () => {
  test('are missing with the switch, from a 429 too, which keeps its Retry-After', () => {
    const { hits } = throttleAt(START, { limitHeaders: { kind: 'none' } });
    expect(hits(240).flatMap(({ headers }) => headers)).toEqual([]);
    expect(hits(1)).toEqual([{ rejected: true, headers: ['Retry-After', '60'] }]);
  });

  test('of a foreign counter have its limit and what remains of it, and reject nothing', () => {
    const { clock, throttle, hits } = throttleAt(START, { limitHeaders: { kind: 'foreign', limit: 2 } });
    throttle.use('main', 240, 100);
    const foreign = (remaining: string) => ({ 'X-RateLimit-Limit': '2', 'X-RateLimit-Remaining': remaining });
    expect(hits(3).map(({ headers }) => fieldsOf(headers))).toEqual([foreign('1'), foreign('0'), foreign('0')]);
    expect(hits(137).some(({ rejected }) => rejected)).toBe(false);
    const [rejection] = hits(1);
    expect(rejection?.rejected).toBe(true);
    expect(fieldsOf(rejection!.headers)).toMatchObject({ 'X-RateLimit-Limit': '240', 'Retry-After': '60' });
    clock.advance(60_000);
    expect(fieldsOf(hits(1)[0]!.headers)).toEqual(foreign('1'));
  });
});

test('the greatest number within 60 s is exact, whatever the times', () => {
  const gaps = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 70_000 })), { maxLength: 200 });
  fc.assert(
    fc.property(gaps, (steps) => {
      const maximum = new SlidingMaximum(60_000);
      const times: number[] = [];
      let now = 0;
      for (const step of steps) {
        now += step;
        times.push(now);
        maximum.add(now);
      }
      const within = (end: number) => times.filter((time) => time <= end && time > end - 60_000).length;
      expect(maximum.greatest).toBe(Math.max(0, ...times.map(within)));
    }),
  );
});

test('the greatest number within 60 s stays exact over many more than it keeps', () => {
  const maximum = new SlidingMaximum(60_000);
  for (let at = 0; at < 20_000; at++) maximum.add(at * 100);
  expect(maximum.greatest).toBe(600);
});
