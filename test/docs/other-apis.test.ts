import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../../src/config/load.ts';

const env = {
  PATCHWORKS_API_KEY: 'fake-key',
  ORDERS_SIGNATURE: 'fake-orders',
  STOCK_SIGNATURE: 'fake-stock',
  SHOP_TOKEN: 'fake-shop',
};

async function load(text: string) {
  const loaded = await loadSettings({ path: 'gateway.yaml', env, readFile: async () => text });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded;
}

test('the example with callbacks and webhooks is valid, and has the routes, accounts and limits that it explains', async () => {
  const { settings, warnings } = await load(await readFile('config/examples/triggers.yaml', 'utf8'));
  expect(warnings).toEqual([]);
  const { accounts, routes, upstreams, tenants } = settings;
  expect([...accounts].map(([id, { quota }]) => [id, quota.limit, quota.ceiling])).toEqual([
    ['main', 240, 235],
    ['callbacks', 240, 235],
    ['webhooks', 120, 118],
  ]);
  expect(routes.slice(0, 2).map(({ rewrite, credential }) => [rewrite, credential])).toEqual([
    ['/api/v1/acme/42', 'orders'],
    ['/api/v1/acme/41', 'stock'],
  ]);
  expect(upstreams.get('callbacks')).toMatchObject({ timeoutMs: 120_000, account: 'callbacks' });
  expect(tenants.get('shop')?.accounts).toEqual(['main', 'callbacks', 'webhooks']);
});

test('the worked example of another API is valid', async () => {
  const page = await readFile('docs/other-apis.md', 'utf8');
  const yaml = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  const { settings, warnings } = await load(yaml);
  // Its tenant has no key yet.
  expect(warnings).toEqual([expect.stringContaining('tenants.stock has neither key nor identity')]);
  expect(settings.accounts.get('shop')?.quota).toMatchObject({ limit: 80, ceiling: 72, burst: 10, adoptLimit: false });
  expect(settings.routes[0]).toMatchObject({ rewrite: '/admin/api/2026-10', credential: 'shop' });
});
