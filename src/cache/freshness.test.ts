import { describe, expect, test } from 'vitest';
import { rule } from '../../test/support/cache-harness.ts';
import type { EpochMs } from '../clock.ts';
import { fieldsOf } from './cache-control.ts';
import { freshnessOf } from './freshness.ts';
import { NEVER_STALE } from './store.ts';

const NOW = Date.parse('2026-11-02T09:00:00.900Z') as EpochMs;
const utc = (offsetSeconds: number) => new Date(NOW + offsetSeconds * 1000).toUTCString();

const received = (headers: string[], more: { status?: number; upstreamMs?: number; authorised?: boolean } = {}) => ({
  status: more.status ?? 200,
  fields: fieldsOf(headers),
  now: NOW,
  upstreamMs: more.upstreamMs ?? null,
  authorised: more.authorised ?? true,
});

const THIRTY_SECONDS = rule('GET /**', 30_000);

describe('freshness without a rule', () => {
  test.each<[string, string[], number | null]>([
    ['s-maxage goes before max-age', ['Cache-Control', 's-maxage=10, max-age=60'], 10],
    ['capitals and quotes change nothing', ['cache-control', 'PUBLIC, Max-Age="60"'], 60],
    ['max-age goes before Expires', ['Cache-Control', 'public, max-age=60', 'Expires', utc(999)], 60],
    ['Expires counts from Date', ['Cache-Control', 'public', 'Date', utc(-10), 'Expires', utc(50)], 60],
    ['a malformed Expires is in the past', ['Cache-Control', 'public', 'Expires', '0'], null],
    ['two different lifetimes are none', ['Cache-Control', 'public, max-age=60, max-age=61'], null],
    ['a malformed lifetime is none', ['Cache-Control', 'public, s-maxage=soon, max-age=60'], null],
    ['private with a field name is private', ['Cache-Control', 'public, max-age=60, private="x"'], null],
    ['no-cache with a field name is no-cache', ['Cache-Control', 'public, max-age=60, no-cache="x"'], null],
    ['must-revalidate allows storing', ['Cache-Control', 'must-revalidate, max-age=60'], 60],
    ['Pragma counts where there is no Cache-Control', ['Pragma', 'no-cache', 'Expires', utc(60)], null],
    ['a response that is stale on arrival is not stored', ['Cache-Control', 's-maxage=60', 'Age', '60'], null],
    ['an old Date is an age', ['Cache-Control', 's-maxage=60', 'Date', utc(-100)], null],
    ['without explicit freshness nothing is stored', ['Last-Modified', utc(-100_000)], null],
  ])('%s', (_name, headers, seconds) => {
    expect(freshnessOf(received(headers), null)?.freshForMs ?? null).toBe(seconds === null ? null : seconds * 1000);
  });
});

describe('storing without a rule', () => {
  const fresh = (headers: string[], more = {}) => freshnessOf(received(headers, more), null)?.freshForMs ?? null;

  test('a caller with its key in Authorization shares only responses that the upstream allows to share', () => {
    expect(fresh(['Cache-Control', 'max-age=60'], { authorised: true })).toBeNull();
    expect(fresh(['Cache-Control', 'max-age=60'], { authorised: false })).toBe(60_000);
    expect(fresh(['Cache-Control', 'private, max-age=60'], { authorised: false })).toBeNull();
  });

  test('CDN-Cache-Control goes before Cache-Control and Expires', () => {
    const both = (targeted: string, all: string) =>
      fresh(['CDN-Cache-Control', targeted, 'Cache-Control', all, 'Expires', utc(9)], { authorised: false });
    expect(both('max-age=60', 'no-store')).toBe(60_000);
    expect(both('no-store', 'max-age=60')).toBeNull();
    expect(both('private', 'public, max-age=60')).toBeNull();
    expect(both('max-age=60, &&&', 'no-store')).toBeNull();
  });

  test('any final status with explicit freshness is stored, a part never, and must-understand only for known statuses', () => {
    const forAll = ['Cache-Control', 'public, max-age=60'];
    for (const status of [200, 299, 302, 404, 499, 599]) expect(fresh(forAll, { status })).toBe(60_000);
    expect(fresh(forAll, { status: 206 })).toBeNull();
    expect(fresh(['Cache-Control', 'public, max-age=60, must-understand'], { status: 599 })).toBeNull();
  });

  test('a response with validators is kept beyond its lifetime, also with no-cache', () => {
    const keep = (headers: string[]) => freshnessOf(received(headers, { authorised: false }), null);
    expect(keep(['Cache-Control', 'max-age=60', 'ETag', '"a"'])).toMatchObject({
      freshForMs: 60_000,
      keepMs: 3_660_000,
    });
    expect(keep(['Cache-Control', 'no-cache', 'ETag', '"a"'])).toMatchObject({ freshForMs: 0, keepMs: 3_600_000 });
    expect(keep(['Cache-Control', 'no-cache', 'Last-Modified', 'yesterday'])).toBeNull();
  });

  test('stale windows are those of the upstream, unless it requires validation', () => {
    const stale = (field: string) =>
      freshnessOf(received(['Cache-Control', field], { authorised: false }), null)?.stale;
    const both = 'max-age=60, stale-while-revalidate=5, stale-if-error=7';
    expect(stale(both)).toMatchObject({ staleWhileRevalidateMs: 5_000, staleIfErrorMs: 7_000, staleIfThrottledMs: 0 });
    for (const strict of ['must-revalidate', 'proxy-revalidate', 's-maxage=60']) {
      expect(stale(`${both}, ${strict}`)).toMatchObject(NEVER_STALE);
    }
  });
});

describe('freshness with a rule', () => {
  test('the ttl counts from the arrival, and the age at the arrival is reported', () => {
    const freshness = freshnessOf(received(['Age', '100'], { upstreamMs: 500 }), THIRTY_SECONDS);
    expect(freshness).toEqual({
      initialAgeMs: 100_500,
      freshForMs: 130_500,
      stale: expect.objectContaining(NEVER_STALE),
      keepMs: 30_000,
    });
  });

  test('a Date of the same second is no age', () => {
    expect(freshnessOf(received(['Date', utc(0)]), THIRTY_SECONDS)?.initialAgeMs).toBe(0);
  });

  test('a rule overrides no-store, private and Set-Cookie, but not Vary: * and other statuses', () => {
    const own = ['Cache-Control', 'no-store, private', 'Set-Cookie', 'a=b'];
    expect(freshnessOf(received(own), THIRTY_SECONDS)).not.toBeNull();
    expect(freshnessOf(received(['Vary', 'Accept', 'Vary', '*']), THIRTY_SECONDS)).toBeNull();
    for (const status of [201, 203, 204, 206, 301, 404, 410, 500]) {
      expect(freshnessOf(received(['Cache-Control', 'public, max-age=60'], { status }), THIRTY_SECONDS)).toBeNull();
    }
  });

  test('a rule with a ttl of 0 stores nothing', () => {
    expect(freshnessOf(received(['Cache-Control', 'public, max-age=60']), rule('GET /**', 0))).toBeNull();
  });
});
