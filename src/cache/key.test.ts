import { describe, expect, test } from 'vitest';
import { accountOf, primaryKey, variantKey } from './key.ts';
import type { Keyed } from './options.ts';

const CORE = { id: 'core', account: 'main', origin: 'http://core.test', timeoutMs: 1_000 };
const request = (more: Partial<Keyed> = {}): Keyed => ({
  headers: { accept: 'application/json' },
  path: '/api/v1/flows',
  canonicalQuery: '',
  route: { upstream: CORE },
  ...more,
});

describe('the key', () => {
  test.each<[string, Partial<Keyed>]>([
    ['account', { route: { upstream: { ...CORE, account: 'other' } } }],
    ['upstream', { route: { upstream: { ...CORE, id: 'start' } } }],
    ['path', { path: '/api/v1/flows/1' }],
    ['query', { canonicalQuery: 'page=2' }],
    ['Accept', { headers: { accept: 'text/csv' } }],
  ])('tells %s apart', (_name, more) => expect(primaryKey(request(more), 's')).not.toBe(primaryKey(request(), 's')));

  test('is the same for every tenant, key and host, and for a missing Accept as for the default one', () => {
    const headers = { authorization: 'Bearer other', cookie: 'a=b', host: 'evil.test', 'x-api-key': 'k' };
    expect(primaryKey(request({ headers }), 's')).toBe(primaryKey(request(), 's'));
  });

  test('differs with the namespace, and contains the fields that a rule names', () => {
    expect(primaryKey(request(), 'new')).not.toBe(primaryKey(request(), 'old'));
    const inGerman = request({ headers: { 'accept-language': 'de' } });
    expect(primaryKey(inGerman, 's')).toBe(primaryKey(request({ headers: {} }), 's'));
    expect(primaryKey(inGerman, 's', ['accept-language'])).not.toBe(primaryKey(request(), 's', ['accept-language']));
  });

  test.each([
    ['accept-language', 'en, de', 'DE ,en', true],
    ['accept-encoding', 'gzip;q=1, br', 'br,gzip;q=1', true],
    ['accept-encoding', 'gzip;q=1, br', 'gzip;q=0.5, br', false],
    ['x-list', '1,2', ' 1 , 2', true],
    ['x-list', '1,2', '2,1', false],
    ['x-list', 'a,b', 'A,b', false],
    ['x-list', '"1,2"', '"1, 2"', false],
  ])('%s: %j and %j are one variant: %s', (field, a, b, same) => {
    const variant = (value: string) => variantKey('k', [field], { [field]: value });
    expect(variant(a) === variant(b)).toBe(same);
  });

  test('begins with its account', () => expect(accountOf(primaryKey(request(), 's'))).toBe('main'));
});
