import { expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../config/load.ts';
import { keyExpiriesOf, planOf } from './derive.ts';

async function settingsOf(tenants: Record<string, unknown>, account = 'main') {
  const accounts = { [account]: { credentials: [{ id: 'p', apiKey: 'fake' }] } };
  const readFile = async () => JSON.stringify({ accounts, tenants });
  const loaded = await loadSettings({ path: 'test.yaml', env: {}, readFile });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}

test('no slots are kept for a tenant that can not call', async () => {
  const settings = await settingsOf({
    on: { quota: { reserved: 10 } },
    off: { disabled: true, quota: { reserved: 20 } },
  });
  const guarantees = [...(planOf(settings).tenants.get('main') ?? [])].map(([id, { reserved: guarantee }]) => [
    id,
    guarantee,
  ]);
  expect(guarantees).toEqual([
    ['on', 10],
    ['off', 0],
  ]);
});

test('nobody is told when the keys of a tenant expire that can not call', async () => {
  const keys = [{ id: '2026-11', sha256: 'ab'.repeat(32), expires: '2100-01-01T00:00:00Z' }];
  const other = [{ id: '2026-12', sha256: 'cd'.repeat(32), expires: '2100-01-01T00:00:00Z' }];
  const settings = await settingsOf({ on: { keys }, off: { disabled: true, keys: other } });
  expect(keyExpiriesOf(settings)).toEqual([{ tenant: 'on', key: '2026-11', epochSeconds: 4_102_444_800 }]);
});

test('what older settings had is known still, but the new quotas count and nothing old is kept', async () => {
  const older = await settingsOf({ gone: { quota: { reserved: 5, burst: 7 } }, stays: { quota: { burst: 1 } } });
  const newer = await settingsOf({ stays: { quota: { burst: 2 } } });
  const other = await settingsOf({ stays: {} }, 'other');
  const plan = planOf(newer, [older, other]);
  expect([...plan.accounts.keys()]).toEqual(['main', 'other']);
  expect(plan.tenants.get('main')?.get('gone')).toMatchObject({ reserved: 0, burst: 7 });
  expect(plan.tenants.get('main')?.get('stays')).toMatchObject({ burst: 2 });
  expect([...(plan.tenants.get('other')?.keys() ?? [])]).toEqual(['stays']);
});
