import { describe, expect, test } from 'vitest';
import { acceptsStale, evaluate } from './cached-response.ts';
import { bypassesCache, isRangeRequest, readRequestDirectives } from './lookup.ts';

describe('the directives of a request', () => {
  test.each([
    ['a malformed max-age asks for a new response', { 'cache-control': 'max-age=soon' }, 'request'],
    ['a malformed min-fresh is never met', { 'cache-control': 'min-fresh=soon' }, 'request'],
    ['max-stale is ignored', { 'cache-control': 'max-stale=1000' }, 'fresh'],
    ['Pragma is ignored beside Cache-Control', { 'cache-control': 'max-age=100', pragma: 'no-cache' }, 'fresh'],
    ['an unknown directive changes nothing', { 'cache-control': 'immutable, x=1' }, 'fresh'],
  ])('%s', (_name, headers, usability) => {
    expect(evaluate(5_000, 10_000, readRequestDirectives(headers as unknown as Record<string, string>))).toBe(
      usability,
    );
  });

  test('no directive makes a stale response usable', () => {
    for (const field of ['max-stale', 'max-stale=99', 'max-age=99', 'only-if-cached']) {
      expect(evaluate(10_000, 10_000, readRequestDirectives({ 'cache-control': field }))).toBe('stale');
    }
  });

  test.each(['if-match', 'if-unmodified-since'])('%s is left to the origin', (name) => {
    expect(bypassesCache({ body: null, headers: { [name]: 'x' } })).toBe(true);
  });

  test.each(['range', 'if-range'])('%s asks for a part', (name) => {
    expect(isRangeRequest({ [name]: 'x' })).toBe(true);
    expect(isRangeRequest({})).toBe(false);
  });

  test.each(['no-cache', 'no-store', 'max-age=99', 'min-fresh=1'])('%s accepts no stale response', (field) => {
    expect(acceptsStale(readRequestDirectives({ 'cache-control': field }))).toBe(false);
    expect(acceptsStale(readRequestDirectives({ 'cache-control': 'only-if-cached' }))).toBe(true);
    expect(acceptsStale(readRequestDirectives({}))).toBe(true);
  });

  test('a request with a validator uses the cache, a GET with a body does not', () => {
    expect(bypassesCache({ body: null, headers: { 'if-none-match': '"x"' } })).toBe(false);
    const body = { declaredBytes: 1, open: () => expect.unreachable() };
    expect(bypassesCache({ body, headers: {} })).toBe(true);
  });
});
