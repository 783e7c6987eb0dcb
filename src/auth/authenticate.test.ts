import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createKeyStore, extractKey } from './authenticate.ts';

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
    expect(extractKey(headers)).toMatchObject({ kind: 'key', key: 'abc' });
  });

  test('that begins with the word bearer is not cut', () => {
    expect(extractKey(['Authorization', 'bearerabc'])).toMatchObject({ kind: 'key', key: 'bearerabc' });
  });

  test.each([
    [['Authorization', 'Bearer abc'], true],
    [['Authorization', 'bearer abc', 'X-API-Key', 'abc'], true],
    [['Authorization', 'abc'], false],
    [['X-API-Key', 'abc'], false],
  ])('of %j is known to be sent as Bearer or not', (headers, bearer) => {
    expect(extractKey(headers)).toEqual({ kind: 'key', key: 'abc', bearer });
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

describe('a key store', () => {
  const entry = {
    id: 'k1',
    kind: 'key' as const,
    expiresAtMs: null,
    allow: null,
    cidrs: null,
    use: { lastUsedAt: 0, knownSince: 0 },
    tenant: {
      ...{ id: 'billing', accounts: ['main'], disabled: false, enforcement: 'enforce' as const, allow: null },
      ...{ quota: { maxWaitMs: 0 }, maxInFlight: null },
    },
  };
  const keys = createKeyStore(new Map([[createHash('sha256').update('right').digest('hex'), entry]]));

  test('finds a key by its digest, the first time and the next', () => {
    expect(keys.find('right')).toBe(entry);
    expect(keys.find('right')).toBe(entry);
  });

  test('does not accept the digest itself as a key', () => {
    expect(keys.find(createHash('sha256').update('right').digest('hex'))).toBeUndefined();
    expect(keys.find('wrong')).toBeUndefined();
  });
});
