import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { FAKE_PRIMARY_KEY, type SimulatorOptions } from './options.ts';
import { createSimulator } from './simulator.ts';

async function simulate(options: SimulatorOptions = {}) {
  const simulator = await createSimulator(options);
  const ask = async (request: string, { key = FAKE_PRIMARY_KEY, body = '' } = {}) => {
    const [method = '', path = ''] = request.split(' ');
    const response = await fetch(`${simulator.url}/api/v1${path}`, {
      method,
      headers: { Authorization: key, Accept: 'application/json', 'Content-Type': 'application/json' },
      signal: AbortSignal.timeout(5_000),
      ...(body !== '' && { body }),
    });
    return { status: response.status, headers: response.headers, body: await response.json() };
  };
  return {
    simulator,
    ask,
    start: async () => (await ask('POST /flows/1/start')).status,
    operations: (account = 'main') => simulator.accounts()[account]?.operations,
    [Symbol.asyncDispose]: () => simulator.close(),
  };
}

describe('what counts as an operation', () => {
  test.each([
    ['a start', 'POST /flows/1/start', ''],
    ['a start of a version', 'POST /flows/1/start/1', ''],
    ['a start with a payload', 'POST /flows/1/start', '{"payload":"x"}'],
    ['a raw start', 'POST /flows/1/start/raw', '{"any":"json"}'],
    ['a manual start', 'POST /flows/1/manual', ''],
  ])('%s is one, whatever its payload', async (_name, request, body) => {
    await using api = await simulate();
    expect((await api.ask(request, { body })).status).toBe(200);
    expect(api.operations()?.used).toBe(1);
  });

  test.each([
    ['a read', 'GET /flows', '', 200],
    ['a read of a run', 'GET /flow-runs/1', '', 200],
    ['a write that starts no flow', 'POST /data-pool', '{"name":"orders"}', 201],
    ['a start of a missing flow', 'POST /flows/9999/start', '', 404],
    ['a start of a flow without a deployed version', 'POST /flows/10/start', '', 422],
    ['a start with a wrong payload', 'POST /flows/1/start', '{"payload":1}', 422],
  ])('%s is none', async (_name, request, body, status) => {
    await using api = await simulate();
    expect((await api.ask(request, { body })).status).toBe(status);
    expect(api.operations()?.used).toBe(0);
  });

  test('a throttled, an unauthenticated and an unexecuted start are none; a start whose response is lost is one', async () => {
    await using api = await simulate({ switches: { limit: 2 } });
    const lost = { match: 'POST /api/v1/flows/*/start', times: 1, fault: { kind: 'status', status: 500 } } as const;
    api.simulator.fault(lost);
    expect([await api.start(), api.operations()?.used]).toEqual([500, 0]);
    api.simulator.fault({ ...lost, where: 'response' });
    expect([await api.start(), api.operations()?.used]).toEqual([500, 1]);
    expect([await api.start(), api.operations()?.used]).toEqual([429, 1]);
    expect((await api.ask('POST /flows/1/start', { key: 'wrong' })).status).toBe(401);
    expect(api.operations()?.used).toBe(1);
  });

  test('the connector requests of a run come on top; a retry repeats them, and is itself one by a switch', async () => {
    await using api = await simulate({ switches: { connectorRequests: 3 } });
    await api.start();
    expect(api.operations()?.used).toBe(4);
    await api.ask('POST /flow-runs/1/retry');
    expect(api.operations()?.used).toBe(7);
    api.simulator.set({ countRetries: true });
    await api.ask('POST /flow-runs/1/retry');
    expect(api.operations()?.used).toBe(11);
    api.simulator.set({ connectorRequests: 0, countRetries: false });
    await api.ask('POST /flow-runs/1/retry');
    expect(api.operations()?.used).toBe(11);
  });

  test('accounts count apart', async () => {
    await using api = await simulate({
      accounts: { one: { apiKeys: { primary: 'fake-one' }, tier: 'professional' }, two: { operations: 7 } },
    });
    await api.ask('POST /flows/1/start', { key: 'fake-one' });
    expect(api.operations('one')).toMatchObject({ allowed: 400_000, used: 1 });
    expect(api.operations('two')).toMatchObject({ allowed: 7, used: 0 });
  });
});

describe('operations used up', () => {
  test('starts go on and are counted, without the switch', async () => {
    await using api = await simulate({ switches: { operations: 1 } });
    expect([await api.start(), await api.start()]).toEqual([200, 200]);
    expect(api.operations()).toMatchObject({ allowed: 1, used: 2, rejected: 0 });
  });

  test.each([402, 403, 429] as const)(
    'starts are %i by the switch: no run, no operation, but a counted request',
    async (status) => {
      await using api = await simulate({ switches: { operations: 2, operationsUsedUp: status } });
      const starts = await Promise.all(Array.from({ length: 10 }, () => api.start()));
      expect(starts.filter((each) => each === 200)).toHaveLength(2);
      const runs = api.simulator.data.all('flow-runs').length;
      const rejected = await api.ask('POST /flows/1/start');
      expect([rejected.status, rejected.body]).toEqual([
        status,
        { message: 'The operations of this month are used up.' },
      ]);
      expect([rejected.headers.get('x-ratelimit-remaining'), rejected.headers.get('retry-after')]).toEqual([
        '229',
        null,
      ]);
      expect(api.simulator.data.all('flow-runs')).toHaveLength(runs);
      expect(api.operations()).toMatchObject({ used: 2, rejected: 9 });
      expect((await api.ask('GET /flows')).status).toBe(200);
    },
  );

  test('retries are rejected only if they cost operations', async () => {
    await using api = await simulate({ switches: { operations: 0, operationsUsedUp: 403 } });
    expect((await api.ask('POST /flow-runs/1/retry')).status).toBe(200);
    api.simulator.set({ countRetries: true });
    expect((await api.ask('POST /flow-runs/1/retry')).status).toBe(403);
  });

  test('others use them up too', async () => {
    await using api = await simulate({ switches: { operations: 10, operationsUsedUp: 403 } });
    api.simulator.useOperations(10);
    expect(await api.start()).toBe(403);
    api.simulator.setAccount({ operations: 11 });
    expect([await api.start(), await api.start()]).toEqual([200, 403]);
  });
});

test('the count restarts with the calendar month, in the time zone of the switch', async () => {
  // Auckland is 13 hours ahead in summer: its month ends at 11:00 UTC.
  const clock = new ManualClock(Date.parse('2026-11-30T10:59:59.999Z'));
  const switches = { operations: 1, operationsUsedUp: 403, operationsTimeZone: 'Pacific/Auckland' } as const;
  await using api = await simulate({ clock, switches });
  expect([await api.start(), await api.start()]).toEqual([200, 403]);
  expect(api.operations()).toEqual({ allowed: 1, month: '2026-11', used: 1, rejected: 1 });
  clock.advance(1);
  expect(api.operations()).toEqual({ allowed: 1, month: '2026-12', used: 0, rejected: 0 });
  expect([await api.start(), await api.start()]).toEqual([200, 403]);
  api.simulator.set({ operationsTimeZone: 'UTC' });
  expect(api.operations()).toMatchObject({ month: '2026-11', used: 1 });
});

test('no response of the API shows the operations', async () => {
  await using api = await simulate();
  api.simulator.useOperations(149_999);
  const { headers, body } = await api.ask('POST /flows/1/start');
  const names = [...headers.keys()].filter((name) => !['connection', 'date', 'keep-alive'].includes(name));
  expect(names).toEqual([
    'cache-control',
    'content-length',
    'content-type',
    'x-ratelimit-limit',
    'x-ratelimit-remaining',
  ]);
  expect(Object.keys((body as { data: object }).data)).toEqual(['id', 'flow_id', 'status']);
});
