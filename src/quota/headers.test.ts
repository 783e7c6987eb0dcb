import { parseList } from 'structured-headers';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { headerOf } from '../context.ts';
import { parseAdvertisedLimit, rateLimitHeadersOf } from './headers.ts';
import { retryAfterSeconds } from './rate-limit.ts';

const clock = new ManualClock(1_000_000_000_000);

describe('the rate limit headers of a tenant', () => {
  const headers = rateLimitHeadersOf({ limit: 60, remaining: 7, resetMs: 12_001, burst: 20 }, clock);

  test('are structured fields as the draft has them', () => {
    expect(parseList(headerOf(headers, 'ratelimit-policy')!)).toEqual([
      [
        'tenant',
        new Map([
          ['q', 60],
          ['w', 60],
        ]),
      ],
    ]);
    expect(parseList(headerOf(headers, 'ratelimit')!)).toEqual([
      [
        'tenant',
        new Map([
          ['r', 7],
          ['t', 13],
        ]),
      ],
    ]);
  });

  test('are there in the form Patchworks clients know: the limit is the most that can remain, the reset in seconds of the epoch', () => {
    expect(
      ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'].map((name) => headerOf(headers, name)),
    ).toEqual(['20', '7', '1000000013']);
  });
});

describe('Retry-After', () => {
  test('is in whole seconds, never too early, and spread', () => {
    expect(retryAfterSeconds(1, () => 0)).toBe(1);
    expect(retryAfterSeconds(4_001, () => 0)).toBe(5);
    expect(retryAfterSeconds(20_000, () => 0.999)).toBe(25);
    expect(retryAfterSeconds(60_000, () => 0.999)).toBe(65);
  });
});

describe('the rate limit headers of the upstream', () => {
  const read = (status: number, headers: string[]) => {
    const invalid: string[] = [];
    return {
      ...parseAdvertisedLimit({ status, headers, now: clock.now(), onInvalid: (header) => invalid.push(header) }),
      invalid,
    };
  };

  test('are read in any spelling', () => {
    expect(read(200, ['x-ratelimit-limit', '240', 'X-RATELIMIT-REMAINING', ' 12 '])).toMatchObject({
      limit: 240,
      remaining: 12,
      throttled: null,
      invalid: [],
    });
  });

  test.each([
    ['30', 30_000],
    ['0', 0],
    [new Date(clock.now() + 5_000).toUTCString(), 5_000],
    [new Date(clock.now() - 5_000).toUTCString(), 0],
  ])('Retry-After %s of a 429 is %i ms', (value, ms) => {
    expect(read(429, ['Retry-After', value]).throttled).toEqual({ retryAfterMs: ms });
  });

  test.each(['-1', 'soon', '1.5', '', '1e9', '99999999999', '2026'.repeat(9)])('%j is ignored and counted', (value) => {
    expect(read(429, ['Retry-After', value, 'X-RateLimit-Remaining', value])).toMatchObject({
      remaining: null,
      throttled: { retryAfterMs: null },
      invalid: ['retry-after', 'x-ratelimit-remaining'],
    });
  });

  test.each(['many', '-240', '2.4e2', ''])('what remains of a limit of %j says nothing', (limit) => {
    expect(read(200, ['X-RateLimit-Limit', limit, 'X-RateLimit-Remaining', '0'])).toMatchObject({
      limit: null,
      remaining: null,
      invalid: ['x-ratelimit-limit'],
    });
  });

  test('Retry-After counts on a 429 alone: a 503 of one host says nothing of the account', () => {
    expect(read(503, ['Retry-After', '30']).throttled).toBeNull();
  });
});
