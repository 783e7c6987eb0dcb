import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { configurationPage, gatewayJsonSchema, tenantsJsonSchema } from '../../scripts/configuration.mjs';
import * as issues from '../../src/config/issues.ts';
import { loadSettings, renderProblems } from '../../src/config/load.ts';
import * as types from '../../src/config/option-types.ts';
import * as defaults from '../../src/config/patchworks-defaults.ts';
import * as gateway from '../../src/config/schema.ts';
import * as tenants from '../../src/config/tenant-schema.ts';

const options = { ...issues, ...types, ...defaults, ...gateway, ...tenants };

const committed = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');
const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

describe('what is made from the schema is up to date (npm run generate)', () => {
  test('docs/configuration.md', async () =>
    expect(await committed('docs/configuration.md')).toBe(configurationPage(options)));
  test('config/gateway.schema.json', async () => {
    expect(JSON.parse(await committed('config/gateway.schema.json'))).toEqual(
      JSON.parse(json(gatewayJsonSchema(options))),
    );
  });
  test('config/tenants.schema.json', async () => {
    expect(JSON.parse(await committed('config/tenants.schema.json'))).toEqual(
      JSON.parse(json(tenantsJsonSchema(options))),
    );
  });
});

test('every option has a description', () => {
  for (const row of configurationPage(options)
    .split('\n')
    .filter((line) => line.startsWith('| `'))) {
    expect(row.split('|').at(-2)?.trim().length, row).toBeGreaterThan(10);
  }
});

test('the defaults for Patchworks, written out, load to the same settings', async () => {
  const page = configurationPage(options);
  const yaml = page.slice(page.lastIndexOf('```yaml') + 8, page.lastIndexOf('```'));
  const base = 'accounts: { main: { credentials: [{ id: p, apiKey: x }] } }\ntenants: { a: {} }\n';
  const load = async (text: string) => {
    const loaded = await loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => text });
    if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
    const { upstreams, routes, cache } = loaded.settings;
    return { upstreams: [...upstreams], routes, cache };
  };
  expect(await load(base + yaml)).toEqual(await load(base));
});

test('the example configuration loads with the credential, and names it if it is missing', async () => {
  const path = new URL('../../config/gateway.yaml', import.meta.url).pathname;
  const loaded = await loadSettings({ path, env: { PATCHWORKS_API_KEY: 'fake-key-for-the-example' } });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  expect([...loaded.settings.tenants.keys()]).toEqual(['billing', 'reporting']);
  // It stores neither secrets nor customer data.
  expect(loaded.settings.cache.rules).toBe(defaults.cacheRuleDefaults);
  const without = await loadSettings({ path, env: {} });
  expect(!without.ok && renderProblems(without.problems)).toContain(
    'the environment variable PATCHWORKS_API_KEY is not set',
  );
});
