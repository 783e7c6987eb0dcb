import { describe, expect, test } from 'vitest';
import { loadSettings, renderProblems } from './load.ts';

const SECRETS = 'which have secrets or customer data: use store: false or unless';

async function warningsOf(cache: string): Promise<readonly string[]> {
  const text = `accounts: { main: { credentials: [{ id: p, apiKey: fake }] } }\ntenants: { a: { keys: [{ id: k, sha256: "${'ab'.repeat(32)}" }] } }\n${cache}`;
  const loaded = await loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => text });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.warnings.filter((warning) => warning.startsWith('cache.'));
}

describe('rules that store secrets or customer data are warned of', () => {
  test.each([
    ['', []],
    ['cache: { rules: [] }', []],
    ['cache: { rules: [{ match: "GET /other/**", ttl: 5s }] }', []],
    [
      'cache: { rules: [{ match: "GET /api/v1/flows/**", ttl: 30s, unless: { include: [variables, webhooks, callbacks] } }] }',
      [],
    ],
    [
      'cache: { rules: [{ match: "GET /api/v1/connectors", store: false }, { match: "GET /api/v1/connectors/**", ttl: 5s }] }',
      [],
    ],
    [
      'cache: { rules: [{ match: "GET /api/v1/connectors/**", ttl: 5s }] }',
      [`cache.rules[0] stores /api/v1/connectors, ${SECRETS}`],
    ],
    [
      'cache: { rules: [{ match: "GET /x", ttl: 5s }, { match: "GET /api/v1/flows", ttl: 5s, unless: { include: [variables] } }] }',
      [`cache.rules[1] stores /api/v1/flows?include=webhooks, /api/v1/flows?include=callbacks, ${SECRETS}`],
    ],
    [
      'cache: { rules: [{ match: "GET /api/v1/**", ttl: 5s }] }',
      [
        `cache.rules[0] stores /api/v1/flow-versions, /api/v1/virtual-environments, /api/v1/connectors and 22 more, ${SECRETS}`,
      ],
    ],
  ])('%s', async (cache, expected) => expect(await warningsOf(cache)).toEqual(expected));
});
