import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, type Running, run } from '../support/gateway.ts';

const RULES = [
  { match: 'GET /api/v1/notifications', store: false },
  { match: 'GET /api/v1/**', ttl: '0s', staleWhileRevalidate: '1m', unless: { include: ['secrets'] } },
];

/** The latest access line of a path, once there are so many. */
async function lineOf(gateway: Running, path: string, count = 1): Promise<Record<string, unknown>> {
  const found = () => gateway.logs().filter((line) => line['msg'] === 'request' && line['path'] === path);
  await eventually(() => found().length === count, `${count} access lines of ${path}`);
  return found().at(-1) ?? {};
}

const headers = { 'X-API-Key': BILLING_KEY };

test('an access line has what a replay of its request needs, and nothing of the query', async () => {
  await using gateway = await run({ config: (upstream) => configuration(upstream, { cache: { rules: RULES } }) });
  const wanted = { ...headers, Priority: 'u=1, i', Prefer: 'wait=7' };
  await gateway.fetch('/api/v1/flows?include=a%5Bsecret%5D', { headers: wanted });
  const line = await lineOf(gateway, '/api/v1/flows');
  expect(line).toMatchObject({ account: 'main', urgency: 1, preferWaitMs: 7_000, cache: 'miss' });
  expect(line['queryDigest']).toMatch(/^[0-9a-f]{8}$/);
  expect(line).not.toHaveProperty('bypassedByRequest');
  expect(gateway.logText()).not.toContain('secret');

  await gateway.fetch('/api/v1/flows?include=a[secret]', { headers });
  const again = await lineOf(gateway, '/api/v1/flows', 2);
  expect(again).toMatchObject({ cache: 'stale', refreshed: true, queryDigest: line['queryDigest'] });
  expect(again).not.toHaveProperty('urgency');
  expect(again).not.toHaveProperty('preferWaitMs');
  await gateway.fetch('/api/v1/flows?include=b', { headers });
  expect((await lineOf(gateway, '/api/v1/flows', 3))['queryDigest']).not.toBe(line['queryDigest']);
});

test('an access line says whether a rule or the request went past the cache', async () => {
  await using gateway = await run({ config: (upstream) => configuration(upstream, { cache: { rules: RULES } }) });
  await gateway.fetch('/api/v1/notifications', { headers });
  const byRule = await lineOf(gateway, '/api/v1/notifications');
  expect(byRule['cache']).toBe('bypass');
  expect(byRule).not.toHaveProperty('bypassedByRequest');
  expect(byRule).not.toHaveProperty('queryDigest');
  await gateway.fetch('/api/v1/companies', { headers: { ...headers, 'Cache-Control': 'no-store' } });
  expect(await lineOf(gateway, '/api/v1/companies')).toMatchObject({ cache: 'bypass', bypassedByRequest: true });
  await gateway.fetch('/api/v1/flows?include=secrets', { headers });
  expect(await lineOf(gateway, '/api/v1/flows')).toMatchObject({ cache: 'bypass', bypassedByRequest: true });
});

test('an access line counts the attempt that was under way when the caller disconnected', async () => {
  await using gateway = await run({
    simulator: { switches: { responseLatency: { kind: 'fixed', ms: 60_000 } } },
    cold: true,
  });
  const leaving = new AbortController();
  const call = gateway.fetch('/api/v1/flows', { headers, signal: leaving.signal }).catch(() => null);
  await eventually(() => gateway.simulator.arrivals().length === 1, 'the request is under way');
  leaving.abort();
  await call;
  expect(await lineOf(gateway, '/api/v1/flows')).toMatchObject({ status: 499, upstreamMs: null, attempts: 1 });
});
