import { describe, expect, test } from 'vitest';
import { sentValue } from '../upstream/headers.ts';
import { accountOf, primaryKey, variantKey } from './key.ts';
import type { Keyed } from './options.ts';

const CORE = { id: 'core', account: 'main', origin: 'http://core.test', timeoutMs: 1_000 };
const request = (more: Partial<Keyed> = {}): Keyed => ({
  headers: { accept: 'application/json' },
  path: '/api/v1/flows',
  canonicalQuery: '',
  segments: ['api', 'v1', 'flows'],
  route: { upstream: CORE, rewriteLinks: false },
  ...more,
});

describe('the key', () => {
  test.each<[string, Partial<Keyed>]>([
    ['account', { route: { upstream: { ...CORE, account: 'other' }, rewriteLinks: false } }],
    ['upstream', { route: { upstream: { ...CORE, id: 'start' }, rewriteLinks: false } }],
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
    const variant = (value: string) => variantKey('k', [field], request({ headers: { [field]: value } }));
    expect(variant(a) === variant(b)).toBe(same);
  });

  test.each([
    [undefined, 'application/json'],
    ['', 'application/json'],
    ['*/*', 'application/json'],
    ['application/json', 'application/json'],
    ['Application/JSON;charset=utf-8', 'application/json'],
    ['application/json, text/plain, */*', 'application/json'],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'application/json'],
    ['text/csv, application/*;q=0.1', 'application/json'],
    ['application/json, application/*;q=0, */*;q=0', 'application/json'],
    ['text/csv', 'text/csv'],
    ['text/html, application/xml', 'text/html, application/xml'],
    ['application/vnd.api+json', 'application/vnd.api+json'],
    ['application/json;q=0, */*', 'application/json;q=0, */*'],
    ['*/*;q=1, application/json; q=0.000', '*/*;q=1, application/json; q=0.000'],
    ['application/*;q=0, */*', 'application/*;q=0, */*'],
    ['*/*;q=0', '*/*;q=0'],
  ])('Accept %j has the key of %j, as which it is sent', (accept, sent) => {
    const headers = accept === undefined ? {} : { accept };
    expect(sentValue(request({ headers }), 'accept')).toBe(sent);
    expect(primaryKey(request({ headers }), 's')).toBe(primaryKey(request({ headers: { accept: sent } }), 's'));
  });

  test('has no field that is not sent, and the encoding that is asked for where links are rewritten', () => {
    const caller = {
      cookie: 'a',
      'x-forwarded-for': '7',
      'cf-connecting-ip': '7',
      x_real_ip: '7',
      'accept-encoding': 'br',
    };
    const fields = Object.keys(caller);
    const rewriting = { ...request({ headers: caller }), route: { upstream: CORE, rewriteLinks: true } };
    expect(variantKey('k', fields, rewriting)).toBe(variantKey('k', fields, { ...rewriting, headers: {} }));
    expect(variantKey('k', fields, request({ headers: caller }))).not.toBe(
      variantKey('k', fields, request({ headers: {} })),
    );
  });

  test('begins with its account', () => expect(accountOf(primaryKey(request(), 's'))).toBe('main'));
});
