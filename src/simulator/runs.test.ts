import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { FAKE_PRIMARY_KEY, type SimulatorOptions } from './options.ts';
import { createSimulator } from './simulator.ts';

const HOUR_MS = 3_600_000;

async function simulate(options: SimulatorOptions = {}) {
  const clock = new ManualClock();
  const simulator = await createSimulator({ clock, ...options });
  const ask = async (request: string, body?: string): Promise<{ status: number; json: Record<string, unknown> }> => {
    const [method = '', path = ''] = request.split(' ');
    const response = await fetch(`${simulator.url}/api/v1${path}`, {
      method,
      headers: { Authorization: FAKE_PRIMARY_KEY, Accept: 'application/json' },
      signal: AbortSignal.timeout(5_000),
      ...(body !== undefined && { body }),
    });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  };
  return {
    clock,
    simulator,
    ask,
    async start(way = 'start', body?: string): Promise<number> {
      return ((await ask(`POST /flows/1/${way}`, body)).json['data'] as { id: number }).id;
    },
    /** Statuses of the runs that were started here. */
    statuses: () =>
      simulator.data
        .all('flow-runs')
        .filter(({ id }) => id > 100_000)
        .map((run) => run['status']),
    [Symbol.asyncDispose]: () => simulator.close(),
  };
}

describe('the queue of runs', () => {
  test('is picked from every 5 s, in order, up to the concurrent runs of the tier', async () => {
    await using api = await simulate({ switches: { runMs: 8_000 } });
    for (let i = 0; i < 25; i++) await api.start();
    const counts = () => [0, 1].map((status) => api.statuses().filter((each) => each === status).length);
    expect(counts()).toEqual([25, 0]);
    api.clock.advance(5_000);
    expect(counts()).toEqual([15, 10]);
    expect(api.statuses().slice(0, 11)).toEqual([...Array(10).fill(1), 0]);
    // Ended at 13 s; the next ten are picked at 15 s.
    api.clock.advance(9_999);
    expect(counts()).toEqual([15, 0]);
    api.clock.advance(1);
    expect(counts()).toEqual([5, 10]);
    // No request came meanwhile: the last five were picked at 25 s, and ended at 33 s.
    api.clock.advance(60_000);
    expect(counts()).toEqual([0, 0]);
    const last = api.simulator.data.all('flow-runs').at(-1);
    const sinceStart = (field: string) => Date.parse(String(last?.[field])) - Date.parse(String(last?.['created_at']));
    expect([sinceStart('started_at'), sinceStart('finished_at')]).toEqual([25_000, 33_000]);
    expect(api.clock.pending).toBe(0);
  });

  test('has more concurrent runs in a higher tier, or as many as the switch says', async () => {
    await using api = await simulate({ switches: { tier: 'enterprise', runMs: HOUR_MS } });
    for (let i = 0; i < 35; i++) await api.start();
    api.clock.advance(5_000);
    expect(api.statuses().filter((each) => each === 1)).toHaveLength(30);
    api.simulator.set({ concurrentRuns: 33 });
    api.clock.advance(5_000);
    expect(api.statuses().filter((each) => each === 1)).toHaveLength(33);
    // The last two get a place when the others have ended.
    api.clock.advance(HOUR_MS);
    expect(api.statuses().filter((each) => each === 1)).toHaveLength(2);
  });

  test('is passed by a retry, which takes a place, and by a manual start where the switch says so', async () => {
    await using api = await simulate({ switches: { concurrentRuns: 1, runMs: HOUR_MS } });
    await api.ask('POST /flow-runs/1/retry');
    await api.start('manual');
    api.simulator.set({ queueManual: false });
    await api.start('manual/raw', '[1]');
    await api.start();
    api.clock.advance(5_000);
    expect(api.statuses()).toEqual([1, 0, 1, 0]);
  });

  test('is no queue with an interval of 0', async () => {
    await using api = await simulate({ switches: { pickMs: 0, concurrentRuns: 1 } });
    await api.start();
    await api.start();
    expect(api.statuses()).toEqual([1, 1]);
  });
});

describe('what is kept for a time', () => {
  test('a payload is 404 after 72 h, and so is its download; what was there at the start stays', async () => {
    await using api = await simulate();
    await api.start('start', '{"payload":"x"}');
    const { id } = api.simulator.data.all('payload-metadata').at(-1) ?? { id: 0 };
    const statuses = async () =>
      Promise.all(
        [`/${id}`, `/${id}/download`, '/1'].map(async (path) => (await api.ask(`GET /payload-metadata${path}`)).status),
      );
    const listed = async () => ((await api.ask('GET /payload-metadata')).json['meta'] as { total: number }).total;
    api.clock.advance(72 * HOUR_MS);
    expect([await api.ask(`GET /payload-metadata/${id}`), await listed()]).toMatchObject([{ status: 200 }, 81]);
    api.clock.advance(1);
    expect([await statuses(), await listed()]).toEqual([[404, 404, 200], 80]);
  });

  test('the log of a run is 404 after 7 days, or as the switch says', async () => {
    await using api = await simulate({ switches: { pickMs: 0, runMs: 0 } });
    const run = await api.start();
    await api.ask('GET /flow-runs');
    const { id } = api.simulator.data.all('flow-run-logs').at(-1) ?? { id: 0 };
    const listed = async () =>
      ((await api.ask(`GET /flow-runs/${run}/flow-run-logs`)).json['data'] as unknown[]).length;
    api.clock.advance(7 * 24 * HOUR_MS);
    expect([(await api.ask(`GET /flow-run-logs/${id}`)).status, await listed()]).toEqual([200, 1]);
    api.clock.advance(1);
    expect([(await api.ask(`GET /flow-run-logs/${id}`)).status, await listed()]).toEqual([404, 0]);
    api.simulator.set({ runLogsMs: 8 * 24 * HOUR_MS });
    expect((await api.ask(`GET /flow-run-logs/${id}`)).status).toBe(200);
  });
});

test('creates are 201, or 200 as documented: a switch', async () => {
  await using api = await simulate();
  expect((await api.ask('POST /data-pool', '{"name":"orders"}')).status).toBe(201);
  api.simulator.set({ createStatus: 200 });
  expect((await api.ask('POST /flow-versions/1/variables', '{"key":"a","type":"string"}')).status).toBe(200);
});

test('errors of a field are texts, or objects with the rule: a switch', async () => {
  await using api = await simulate();
  const wrong = () => api.ask('POST /flow-versions/1/variables', JSON.stringify({ key: 'a', value: 'x'.repeat(1025) }));
  const message = 'The type field is required. (and 1 more error)';
  expect(await wrong()).toEqual({
    status: 422,
    json: {
      message,
      errors: {
        type: ['The type field is required.'],
        value: ['The value may not be greater than 1024 characters.'],
      },
    },
  });
  api.simulator.set({ validationErrors: 'rules' });
  expect(await wrong()).toEqual({
    status: 422,
    json: {
      message,
      errors: {
        type: [{ required: 'The type field is required.' }],
        value: [{ max: 'The value may not be greater than 1024 characters.' }],
      },
    },
  });
});
