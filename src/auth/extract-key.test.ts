import { describe, expect, test } from 'vitest';
import { extractKey } from './extract-key.ts';

describe('the key of a request', () => {
  test.each([
    [['Authorization', 'Bearer abc']],
    [['authorization', 'bearer   abc ']],
    [['Authorization', 'abc']],
    [['X-API-Key', 'abc']],
    [['Authorization', 'Bearer abc', 'X-API-Key', 'abc']],
    [['Authorization', 'abc', 'Authorization', 'Bearer abc']],
    [['Authorization', '', 'X-API-Key', 'abc']],
    [['Authorization', 'Bearer\tabc']],
  ])('is found in %j', (headers) => {
    expect(extractKey(headers)).toEqual({ kind: 'key', key: 'abc' });
  });

  test('that begins with the word bearer is not cut', () => {
    expect(extractKey(['Authorization', 'bearerabc'])).toEqual({ kind: 'key', key: 'bearerabc' });
  });

  test.each([
    [['Authorization', 'Bearer abc', 'X-API-Key', 'abd']],
    [['X-API-Key', 'abc', 'X-API-Key', 'abd']],
    [['Authorization', 'abc', 'Authorization', 'abd']],
  ])('is a conflict where two differ: %j', (headers) => {
    expect(extractKey(headers).kind).toBe('conflict');
  });

  test.each([[[]], [['Authorization', 'Bearer']], [['Authorization', 'Bearer ']], [['Accept', 'abc']]])(
    'is missing in %j',
    (headers) => {
      expect(extractKey(headers).kind).toBe('none');
    },
  );
});
