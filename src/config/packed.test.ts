import { expect, test } from 'vitest';
import { Secret } from '../secret.ts';
import { pack, unpack } from './packed.ts';

test('what went to another thread is what was sent: maps, nothing, and secrets that hide', () => {
  const value = {
    ...{ none: null, missing: undefined, list: [1, 'a', false], token: new Secret('fake-token') },
    map: new Map([['a', { keys: [new Secret('fake-key')] }]]),
  };
  const back = unpack(structuredClone(pack(value))) as typeof value;
  expect(back).toEqual(value);
  expect([back.token.reveal(), back.map.get('a')!.keys[0]!.reveal()]).toEqual(['fake-token', 'fake-key']);
  expect(String(back.token)).not.toContain('fake');
});
