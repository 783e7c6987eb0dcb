import { describe, expect, test } from 'vitest';
import { fieldsOf } from './cache-control.ts';
import { selectingFields, storedHeaders } from './stored-headers.ts';

describe('the headers of a stored response', () => {
  test.each([
    'Set-Cookie',
    'set-cookie2',
    'Authorization',
    'X-API-Key',
    'X-RateLimit-Limit',
    'X-Rate-Limit-Reset',
    'RateLimit',
    'RateLimit-Policy',
    'Retry-After',
    'Transfer-Encoding',
    'Keep-Alive',
    'Proxy-Authenticate',
    'X-Request-Id',
    'Age',
    'Cache-Status',
    'Content-Length',
  ])('have no %s', (name) => {
    const list = ['Content-Type', 'application/json', name, 'x'];
    expect(storedHeaders(list, fieldsOf(list))).toEqual(['Content-Type', 'application/json']);
  });

  test('have no field that Connection names, in any case', () => {
    const list = ['X-Hop', 'h', 'Connection', 'close, x-HOP', 'X-Kept', 'k'];
    expect(storedHeaders(list, fieldsOf(list))).toEqual(['X-Kept', 'k']);
  });

  test('keep order, spelling and lines of the same name', () => {
    const list = ['Link', 'a', 'x-b', '1', 'Link', 'c', 'Date', 'd'];
    expect(storedHeaders(list, fieldsOf(list))).toEqual(list);
  });
});

describe('the fields that select a variant', () => {
  test.each<[string[], string[]]>([
    [
      ['Vary', 'Origin, accept-LANGUAGE', 'Vary', 'Origin'],
      ['accept-language', 'origin'],
    ],
    [['Content-Encoding', 'gzip'], ['accept-encoding']],
    [[], []],
  ])('%j: %j', (headers, names) => expect(selectingFields(fieldsOf(headers))).toEqual(names));

  test("never include the callers' credentials, which must not be part of a key", () => {
    expect(selectingFields(fieldsOf(['Vary', 'Authorization, Cookie, X-API-Key, Accept']))).toEqual([]);
  });
});
