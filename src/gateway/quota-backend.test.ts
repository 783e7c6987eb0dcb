import { expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../config/load.ts';
import { planOf } from './quota-backend.ts';

async function settingsOf(tenants: Record<string, unknown>, account = 'main') {
  const accounts = { [account]: { credentials: [{ id: 'p', apiKey: 'fake' }] } };
  const readFile = async () => JSON.stringify({ accounts, tenants });
  const loaded = await loadSettings({ path: 'test.yaml', env: {}, readFile });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}

test('no slots are reserved for a disabled tenant', async () => {
  const settings = await settingsOf({
    on: { quota: { reserved: 10 } },
    off: { disabled: true, quota: { reserved: 20 } },
  });
  const reserved = [...(planOf(settings).tenants.get('main') ?? [])].map(([id, quota]) => [id, quota.reserved]);
  expect(reserved).toEqual([
    ['on', 10],
    ['off', 0],
  ]);
});

test('accounts and tenants of older settings stay known, under the new quotas and without reserved slots', async () => {
  const older = await settingsOf({ gone: { quota: { reserved: 5, burst: 7 } }, stays: { quota: { burst: 1 } } });
  const newer = await settingsOf({ stays: { quota: { burst: 2 } } });
  const other = await settingsOf({ stays: {} }, 'other');
  const plan = planOf(newer, [older, other]);
  expect([...plan.accounts.keys()]).toEqual(['main', 'other']);
  expect(plan.tenants.get('main')?.get('gone')).toMatchObject({ reserved: 0, burst: 7 });
  expect(plan.tenants.get('main')?.get('stays')).toMatchObject({ burst: 2 });
  expect([...(plan.tenants.get('other')?.keys() ?? [])]).toEqual(['stays']);
});
