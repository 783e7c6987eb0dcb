import { describe, expect, test } from 'vitest';
import type { EpochMs } from '../clock.ts';
import { parsePattern } from '../routing/pattern.ts';
import { type CacheRule, isBeyondCache, judge, lifetimeOf, readWishes, ruleFor } from './policy.ts';
import { fieldsOf } from './stored.ts';

const NOW = Date.parse('2026-11-02T09:00:00.900Z') as EpochMs;
const utc = (offsetSeconds: number) => new Date(NOW + offsetSeconds * 1000).toUTCString();

const arrival = (headers: string[], more: { status?: number; upstreamMs?: number } = {}) => ({
  status: more.status ?? 200,
  fields: fieldsOf(headers),
  now: NOW,
  upstreamMs: more.upstreamMs ?? null,
});

function rule(text: string, ttlMs: number): CacheRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return { match: parsed.pattern, store: true, ttlMs };
}
const THIRTY_SECONDS = rule('GET /**', 30_000);

describe('how long an answer is fresh without a rule', () => {
  test.each<[string, string[], number | null]>([
    ['s-maxage goes before max-age', ['Cache-Control', 's-maxage=10, max-age=60'], 10],
    ['capitals and quotes change nothing', ['cache-control', 'PUBLIC, Max-Age="60"'], 60],
    ['max-age goes before Expires', ['Cache-Control', 'public, max-age=60', 'Expires', utc(999)], 60],
    ['Expires counts from Date', ['Cache-Control', 'public', 'Date', utc(-10), 'Expires', utc(50)], 60],
    ['a malformed Expires is in the past', ['Cache-Control', 'public', 'Expires', '0'], null],
    ['two lifetimes that disagree are none', ['Cache-Control', 'public, max-age=60, max-age=61'], null],
    ['a malformed lifetime is none', ['Cache-Control', 'public, s-maxage=soon, max-age=60'], null],
    ['private with a field name is private', ['Cache-Control', 'public, max-age=60, private="x"'], null],
    ['no-cache with a field name is no-cache', ['Cache-Control', 'public, max-age=60, no-cache="x"'], null],
    ['must-revalidate allows storing', ['Cache-Control', 'must-revalidate, max-age=60'], 60],
    ['Pragma counts where no Cache-Control is', ['Pragma', 'no-cache', 'Expires', utc(60)], null],
    ['what is past its age on arrival is never stored', ['Cache-Control', 's-maxage=60', 'Age', '60'], null],
    ['a Date far back is an age', ['Cache-Control', 's-maxage=60', 'Date', utc(-100)], null],
    ['nothing said, nothing stored', ['Last-Modified', utc(-100_000)], null],
  ])('%s', (_name, headers, seconds) => {
    expect(lifetimeOf(arrival(headers), null)?.freshForMs ?? null).toBe(seconds === null ? null : seconds * 1000);
  });
});

describe('how long an answer is fresh with a rule', () => {
  test('the ttl counts from the arrival, and the age it came with is told', () => {
    const lifetime = lifetimeOf(arrival(['Age', '100'], { upstreamMs: 500 }), THIRTY_SECONDS);
    expect(lifetime).toEqual({ initialAgeMs: 100_500, freshForMs: 130_500 });
  });

  test('a Date of this very second is no age', () => {
    expect(lifetimeOf(arrival(['Date', utc(0)]), THIRTY_SECONDS)?.initialAgeMs).toBe(0);
  });

  test('no-store, private and Set-Cookie of upstream do not bind it, Vary: * and other statuses do', () => {
    const own = ['Cache-Control', 'no-store, private', 'Set-Cookie', 'a=b'];
    expect(lifetimeOf(arrival(own), THIRTY_SECONDS)).not.toBeNull();
    expect(lifetimeOf(arrival(['Vary', 'Accept', 'Vary', '*']), THIRTY_SECONDS)).toBeNull();
    for (const status of [201, 203, 204, 206, 301, 404, 410, 500]) {
      expect(lifetimeOf(arrival(['Cache-Control', 'public, max-age=60'], { status }), THIRTY_SECONDS)).toBeNull();
    }
  });

  test('a rule of no time stores nothing', () => {
    expect(lifetimeOf(arrival(['Cache-Control', 'public, max-age=60']), rule('GET /**', 0))).toBeNull();
  });

  test('the first rule that matches decides, and one for another method never does', () => {
    const rules = [rule('POST /a', 1), rule('GET /a/**', 2), rule('* /**', 3)];
    expect(ruleFor(rules, ['a'])).toBe(rules[1]);
    expect(ruleFor(rules, ['b'])).toBe(rules[2]);
  });
});

describe('what a request asks', () => {
  test.each([
    ['a malformed max-age wants it new', { 'cache-control': 'max-age=soon' }, 'request'],
    ['a malformed min-fresh is never met', { 'cache-control': 'min-fresh=soon' }, 'request'],
    ['max-stale gets nothing stale', { 'cache-control': 'max-stale=1000' }, 'fresh'],
    ['Pragma counts not beside Cache-Control', { 'cache-control': 'max-age=100', pragma: 'no-cache' }, 'fresh'],
    ['an unknown directive changes nothing', { 'cache-control': 'immutable, x=1' }, 'fresh'],
  ])('%s', (_name, headers, usable) => {
    expect(judge(5_000, 10_000, readWishes(headers as unknown as Record<string, string>))).toBe(usable);
  });

  test('nothing a request says makes a stale answer usable', () => {
    for (const field of ['max-stale', 'max-stale=99', 'max-age=99', 'only-if-cached']) {
      expect(judge(10_000, 10_000, readWishes({ 'cache-control': field }))).toBe('stale');
    }
  });

  test.each(['range', 'if-range', 'if-match', 'if-unmodified-since'])('%s is not for the cache to judge', (name) => {
    expect(isBeyondCache({ body: null, headers: { [name]: 'x' } })).toBe(true);
  });

  test('a validator is answered in full, and a body of a GET keeps the cache out', () => {
    expect(isBeyondCache({ body: null, headers: { 'if-none-match': '"x"' } })).toBe(false);
    const body = { declaredBytes: 1, open: () => expect.unreachable() };
    expect(isBeyondCache({ body, headers: {} })).toBe(true);
  });
});
