import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Simulator } from './control.ts';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_USER } from './options.ts';
import { createSimulator } from './simulator.ts';

let simulator: Simulator;
beforeEach(async () => {
  simulator = await createSimulator();
});
afterEach(() => simulator.close());

async function order(method: string, name: string, body?: unknown) {
  const response = await fetch(`${simulator.url}/_simulator/${name}`, {
    method,
    signal: AbortSignal.timeout(5_000),
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> & { length: number } };
}

const ask = (authorization = FAKE_PRIMARY_KEY) =>
  fetch(`${simulator.url}/api/v1/flows`, {
    headers: { Authorization: authorization, Accept: 'application/json' },
    signal: AbortSignal.timeout(5_000),
  });

test('orders are neither counted nor recorded', async () => {
  for (const name of ['arrivals', 'stats', 'switches', 'nothing']) await order('GET', name);
  expect(simulator.stats()).toMatchObject({ arrived: 0, counted: 0 });
});

test('the record can be read, in part, and forgotten', async () => {
  for (let i = 0; i < 3; i++) await (await ask()).arrayBuffer();
  expect((await order('GET', 'arrivals')).body).toHaveLength(3);
  expect((await order('GET', 'arrivals?last=1')).body).toHaveLength(1);
  expect((await order('GET', 'stats')).body).toMatchObject({ arrived: 3, accounts: { main: { counted: 3 } } });
  await order('DELETE', 'arrivals');
  expect((await order('GET', 'stats')).body).toMatchObject({ arrived: 0, greatestIn60s: 0 });
});

test('switches can be changed, and one that is wrong changes none', async () => {
  expect((await order('PATCH', 'switches', { limit: 7 })).body).toMatchObject({ limit: 7 });
  expect((await ask()).headers.get('x-ratelimit-limit')).toBe('7');
  expect((await order('PATCH', 'switches', { limit: 9, shape: 'round' })).status).toBe(400);
  expect(simulator.switches.limit).toBe(7);
  expect((await order('PATCH', 'switches', JSON.parse('{"__proto__":1}'))).status).toBe(400);
});

test('faults, external usage, keys and tokens can be controlled', async () => {
  const fault = { match: 'GET /api/v1/**', times: 1, fault: { kind: 'status', status: 503 } };
  expect((await order('POST', 'faults', fault)).status).toBe(200);
  expect((await ask()).status).toBe(503);
  expect((await order('POST', 'faults', { match: 'x' })).status).toBe(400);
  expect((await order('POST', 'external', { count: 500 })).body).toEqual({ used: 240 });
  expect((await ask()).status).toBe(429);
  expect((await order('POST', 'external', { count: -1 })).status).toBe(400);
  expect((await order('POST', 'external', { count: 1, account: 'other' })).status).toBe(400);
  expect((await order('POST', 'revoke', { key: 'primary' })).status).toBe(200);
  expect((await ask()).status).toBe(401);
  expect((await order('POST', 'revoke', { key: 'primary' })).status).toBe(400);
  await order('POST', 'keys', { id: 'primary', key: FAKE_PRIMARY_KEY });
  expect((await ask()).status).toBe(429);
  const token = simulator.credentials.login(FAKE_USER, FAKE_PASSWORD)?.token;
  await order('POST', 'expire', {});
  expect((await ask(`Bearer ${token}`)).status).toBe(401);
  await order('POST', 'logins', { rejected: true });
  expect(simulator.credentials.login(FAKE_USER, FAKE_PASSWORD)).toBeNull();
});

test('the limit of the account changes while its window is open, down and back', async () => {
  const limitOf = async () => {
    const response = await ask();
    await response.arrayBuffer();
    const field = (name: string) => response.headers.get(`x-ratelimit-${name}`);
    return [response.status, field('limit'), field('remaining')];
  };
  expect(await limitOf()).toEqual([200, '240', '239']);
  expect((await order('PATCH', 'accounts', { limit: 3 })).body).toMatchObject({ main: { limit: 3 } });
  expect(await limitOf()).toEqual([200, '3', '1']);
  await order('PATCH', 'accounts', { account: 'main', limit: 2 });
  expect(await limitOf()).toEqual([429, '2', '0']);
  await order('PATCH', 'accounts', { limit: null });
  expect(await limitOf()).toEqual([200, '240', '237']);
});

test('the tier, the operations of the month and what others use of them can be set', async () => {
  const operations = async () => {
    const { body } = await order('GET', 'accounts');
    return (body['main'] as { operations: Record<string, unknown> }).operations;
  };
  expect(await operations()).toMatchObject({ allowed: 150_000, used: 0, rejected: 0 });
  await order('PATCH', 'accounts', { tier: 'enterprise' });
  await order('POST', 'operations', { count: 50 });
  await order('DELETE', 'arrivals');
  expect(await operations()).toMatchObject({ allowed: 1_000_000, used: 50 });
  await order('PATCH', 'accounts', { operations: 40 });
  expect(await operations()).toMatchObject({ allowed: 40, used: 50 });
});

test.each([
  ['PATCH', 'accounts', { limit: 5, tier: 'trial' }, 'tier must be one of growth, professional, enterprise'],
  ['PATCH', 'accounts', { limit: '5' }, 'limit must be a whole number from 1'],
  ['PATCH', 'accounts', { limit: 5, limt: 4 }, 'there is no term "limt"; known: tier, limit, operations'],
  ['PATCH', 'accounts', { limit: 5, account: 'other' }, 'there is no account "other"'],
  ['PATCH', 'accounts', JSON.parse('{"limit":5,"__proto__":1}'), 'there is no term "__proto__"'],
  ['POST', 'operations', {}, 'count must be a whole number from 0'],
  ['POST', 'operations', { count: 1, account: 'other' }, 'there is no account "other"'],
])('%s %s %j is refused with the reason, and changes nothing', async (method, name, body, reason) => {
  const before = simulator.accounts();
  const refused = await order(method, name, body);
  expect([refused.status, refused.body['message']]).toEqual([400, expect.stringContaining(reason)]);
  expect(simulator.accounts()).toEqual(before);
});

test('a body that is not a JSON object is rejected; an unknown path lists the known ones', async () => {
  for (const text of ['{', '[]', '1']) {
    const response = await fetch(`${simulator.url}/_simulator/switches`, { method: 'PATCH', body: text });
    expect(response.status).toBe(400);
  }
  const unknown = await order('GET', 'nothing');
  expect([unknown.status, unknown.body['message']]).toEqual([404, expect.stringContaining('GET stats')]);
});

test('without control the paths are unknown routes, recorded like any other', async () => {
  const closed = await createSimulator({ control: false });
  const response = await fetch(`${closed.url}/_simulator/stats`, { signal: AbortSignal.timeout(5_000) });
  expect([response.status, closed.stats().arrived]).toEqual([404, 1]);
  await closed.close();
});
