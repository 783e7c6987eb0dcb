import { expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../config/load.ts';
import { keyExpiriesOf } from './metric-sources.ts';

test('the keys of a disabled tenant have no expiry metric', async () => {
  const keys = [{ id: '2026-11', sha256: 'ab'.repeat(32), expires: '2100-01-01T00:00:00Z' }];
  const other = [{ id: '2026-12', sha256: 'cd'.repeat(32), expires: '2100-01-01T00:00:00Z' }];
  const file = {
    accounts: { main: { credentials: [{ id: 'p', apiKey: 'fake' }] } },
    tenants: { on: { keys }, off: { disabled: true, keys: other } },
  };
  const loaded = await loadSettings({ path: 'test.yaml', env: {}, readFile: async () => JSON.stringify(file) });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  expect(keyExpiriesOf(loaded.settings)).toEqual([{ tenant: 'on', key: '2026-11', epochSeconds: 4_102_444_800 }]);
});
