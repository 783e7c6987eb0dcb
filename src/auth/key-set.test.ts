import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MAX_JWKS_BYTES, parseJwks } from './key-set.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'a', use: 'sig' };
const set = (...keys: unknown[]) => JSON.stringify({ keys });

describe('a JSON Web Key Set', () => {
  test('is read with its keys for signatures, and without others', () => {
    const others = [
      { ...key, use: 'enc' },
      { kty: 'oct', k: 'c2VjcmV0', kid: 'a' },
      { kty: 'unknown', kid: 'a' },
      { kid: 'a' },
    ];
    expect(parseJwks(set(key, { ...key, kid: 'b' }, ...others))).toMatchObject({ ok: true, count: 2 });
    expect(parseJwks(set({ ...key, kid: undefined }))).toMatchObject({ ok: true, count: 1 });
  });

  test.each([
    ['is no JSON', '<html></html>'],
    ['is no JSON', ''],
    ['is no JSON Web Key Set: it has no list `keys`', 'null'],
    ['is no JSON Web Key Set: it has no list `keys`', '"text"'],
    ['is no JSON Web Key Set: it has no list `keys`', '[]'],
    ['is no JSON Web Key Set: it has no list `keys`', '{"keys":{"a":{}}}'],
    ['is no JSON Web Key Set: it has no list `keys`', JSON.stringify(key)],
    ['has no public key for signatures', set()],
    ['has no public key for signatures', set(null, 'text', [key])],
    ['has no public key for signatures', set({ kty: 'oct', k: 'c2VjcmV0' })],
    ['has two keys with the same `kid`', set(key, key)],
    ['has a key whose `kid` is no text', set({ ...key, kid: 1 })],
    ['has more than 100 keys', set(...Array.from({ length: 101 }, (_, i) => ({ ...key, kid: `${i}` })))],
    ['is larger than 1 MiB', set({ ...key, x5c: ['x'.repeat(MAX_JWKS_BYTES)] })],
    [
      'has a private key: every reader could make tokens; replace that key',
      set(pair.privateKey.export({ format: 'jwk' })),
    ],
    ['is no JSON', `${'['.repeat(500_000)}`],
    [
      'is no JSON Web Key Set',
      `{"keys":[${JSON.stringify(key).slice(0, -1)},"a":${'['.repeat(400_000)}${']'.repeat(400_000)}}]}`,
    ],
  ])('makes nothing of a document that %s: %#', (reason, text) => {
    expect(parseJwks(text)).toEqual({ ok: false, reason });
  });
});
