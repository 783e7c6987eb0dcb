import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createKeyStore } from './key-store.ts';

describe('a key store', () => {
  const entry = {
    id: 'k1',
    kind: 'key' as const,
    expiresAtMs: null,
    allow: null,
    cidrs: null,
    use: { lastUsedAt: 0, knownSince: 0 },
    tenant: { id: 'billing', accounts: ['main'], disabled: false, enforcement: 'enforce' as const, allow: null },
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
