import { expect, test } from 'vitest';
import { Secret } from '../secret.ts';
import { loadSettings } from './load.ts';
import { pack, unpack } from './packed.ts';

test('what many tenants may do is one object, also on the other side of a thread', async () => {
  const tenants = Array.from(
    { length: 100 },
    (_, i) => `  t${i}: { allow: ["GET /api/v1/**", "POST /api/v1/data-pool/**"] }`,
  );
  const file = [
    'accounts: { main: { credentials: [{ id: a, apiKey: fake-key-of-account }] } }',
    'tenants:',
    ...tenants,
  ].join('\n');
  const loaded = await loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => file });
  const back = unpack(structuredClone(pack(loaded))) as typeof loaded;
  for (const each of [loaded, back]) {
    const lists = each.ok ? [...each.settings.tenants.values()].map(({ allow }) => allow) : [];
    expect([lists.length, new Set(lists).size]).toEqual([100, 1]);
  }
  expect(back).toEqual(loaded);
});

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
