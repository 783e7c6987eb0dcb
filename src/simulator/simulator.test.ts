import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { SimulatorOptions } from './options.ts';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_SPARE_KEY, FAKE_USER } from './options.ts';
import { createSimulator } from './simulator.ts';

async function simulated(options: SimulatorOptions = {}) {
  const clock = new ManualClock();
  const simulator = await createSimulator({ clock, ...options });
  const call = (path: string, init: RequestInit = {}) =>
    fetch(simulator.url + path, {
      redirect: 'manual',
      ...init,
      headers: {
        Authorization: FAKE_PRIMARY_KEY,
        Accept: 'application/json',
        ...(init.headers as Record<string, string>),
      },
    });
  return { clock, simulator, call, [Symbol.asyncDispose]: () => simulator.close() };
}

const limits = (response: Response) => [
  response.headers.get('x-ratelimit-limit'),
  response.headers.get('x-ratelimit-remaining'),
];
const message = async (response: Response) => ((await response.json()) as { message: string }).message;

describe('the throttle', () => {
  test('is a fixed window that the first counted request opens', async () => {
    await using sim = await simulated({ switches: { limit: 3 } });
    sim.clock.advance(12_345);
    for (const remaining of ['2', '1', '0']) expect(limits(await sim.call('/api/v1/flows'))).toEqual(['3', remaining]);
    sim.clock.advance(59_500);
    const refused = await sim.call('/api/v1/flows');
    expect(refused.status).toBe(429);
    expect(limits(refused)).toEqual(['3', '0']);
    // Laravel reckons in whole seconds of the epoch: opened in second 12, over in 72, and this is second 71.
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(refused.headers.get('x-ratelimit-reset')).toBe(String(Math.floor(sim.clock.now() / 1000) + 1));
    expect(await message(refused)).toBe('Too Many Attempts.');
    sim.clock.advance(500);
    expect(limits(await sim.call('/api/v1/flows'))).toEqual(['3', '2']);
  });

  test('does not count what it refuses', async () => {
    await using sim = await simulated({ switches: { limit: 1 } });
    await sim.call('/api/v1/flows');
    for (let i = 0; i < 5; i++) expect((await sim.call('/api/v1/flows')).status).toBe(429);
    sim.clock.advance(60_000);
    expect((await sim.call('/api/v1/flows')).status).toBe(200);
    expect(sim.simulator.stats()).toMatchObject({ arrived: 7, counted: 2, throttled: 5 });
  });

  test('comes after authentication and unknown routes, and before the models', async () => {
    await using sim = await simulated();
    const uncounted: [string, RequestInit, number][] = [
      ['/api/v1/flows', { headers: { Authorization: 'wrong' } }, 401],
      ['/api/v1/nothing', {}, 404],
      ['/api/v1/flows', { method: 'DELETE' }, 405],
      ['/api/v1/data-pool', { method: 'POST', body: Buffer.alloc(8 * 2 ** 20 + 1) }, 413],
    ];
    for (const [path, init, status] of uncounted) {
      const response = await sim.call(path, init);
      expect([response.status, ...limits(response)]).toEqual([status, null, null]);
    }
    const missing = await sim.call('/api/v1/flows/999999');
    expect([missing.status, ...limits(missing)]).toEqual([404, '240', '239']);
    const invalid = await sim.call('/api/v1/data-pool', { method: 'POST', body: '{}' });
    expect([invalid.status, ...limits(invalid)]).toEqual([422, '240', '238']);
    expect(await invalid.json()).toMatchObject({ errors: { name: [expect.any(String)] } });
  });

  test('counts an account together, or each key apart', async () => {
    await using together = await simulated();
    await together.call('/api/v1/flows');
    const spare = { headers: { Authorization: FAKE_SPARE_KEY } };
    expect(limits(await together.call('/api/v1/flows', spare))).toEqual(['240', '238']);
    await using apart = await simulated({ switches: { scope: 'key' } });
    await apart.call('/api/v1/flows');
    expect(limits(await apart.call('/api/v1/flows', spare))).toEqual(['240', '239']);
  });

  test('may answer as an ingress does, with none of the fields', async () => {
    await using sim = await simulated({ switches: { limit: 1, bareThrottle: true } });
    await sim.call('/api/v1/flows');
    const refused = await sim.call('/api/v1/flows');
    expect([refused.status, ...limits(refused), refused.headers.get('retry-after')]).toEqual([429, null, null, null]);
  });
});

describe('credentials', () => {
  test('an API key is bare; with Bearer it works only if switched on; revoked it is 401 at once', async () => {
    await using sim = await simulated();
    const bearer = { headers: { Authorization: `Bearer ${FAKE_PRIMARY_KEY}` } };
    expect((await sim.call('/api/v1/flows', bearer)).status).toBe(401);
    sim.simulator.switches.bearerApiKey = true;
    expect((await sim.call('/api/v1/flows', bearer)).status).toBe(200);
    sim.simulator.credentials.revokeKey('primary');
    const revoked = await sim.call('/api/v1/flows');
    expect([revoked.status, await message(revoked)]).toEqual([401, 'Unauthenticated.']);
  });

  test('both forms of login give a token that lives as long as it says', async () => {
    await using sim = await simulated({ switches: { tokenLifeSeconds: 100 } });
    for (const [path, field] of [
      ['/fabric/api/login', 'username'],
      ['/api/v1/login', 'email'],
    ] as const) {
      const body = JSON.stringify({ [field]: FAKE_USER, password: FAKE_PASSWORD });
      const login = (await (await sim.call(path, { method: 'POST', body })).json()) as {
        token: string;
        expires_in: number;
      };
      expect(login).toMatchObject({ message: 'You have successfully logged in.', expires_in: 100 });
      const as = { headers: { Authorization: `Bearer ${login.token}` } };
      expect((await sim.call('/api/v1/flows', as)).status).toBe(200);
      sim.clock.advance(100_000);
      expect((await sim.call('/api/v1/flows', as)).status).toBe(401);
    }
    expect(
      (await sim.call('/fabric/api/login', { method: 'POST', body: '{"username":"x","password":"y"}' })).status,
    ).toBe(401);
  });
});

describe('lists', () => {
  test("have the paginator's envelope, links with escaped slashes on the host that was asked", async () => {
    await using sim = await simulated();
    const response = await sim.call('/api/v1/flows?per_page=10&page=2');
    const text = await response.text();
    expect(response.headers.get('cache-control')).toBe('no-cache, private');
    expect(text).toContain(`"next":"http:\\/\\/127.0.0.1:${sim.simulator.port}\\/api\\/v1\\/flows?per_page=10&page=3"`);
    const { data, meta } = JSON.parse(text);
    expect(data.map((item: { id: number }) => item.id)).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    expect(meta).toMatchObject({ current_page: 2, from: 11, to: 20, last_page: 4, per_page: 10, total: 37 });
  });

  test.each([
    ['filter%5Bid%5D=3%2C5', [3, 5]],
    ['filter[id]=3,5&sort=-id', [5, 3]],
    ['per_page=3&sort=-id', [37, 36, 35]],
    ['per_page=2&page=/', 422],
    ['per_page=0', 422],
  ])('%s', async (query, expected) => {
    await using sim = await simulated();
    const response = await sim.call(`/api/v1/flows/?${query}`);
    if (typeof expected === 'number') expect(response.status).toBe(expected);
    else expect(((await response.json()) as { data: { id: number }[] }).data.map((item) => item.id)).toEqual(expected);
  });

  test('show only the fields asked for, what is included, and either shape', async () => {
    await using sim = await simulated();
    const first = async () =>
      (
        (await (await sim.call('/api/v1/flows?fields%5Bflows%5D=name&include=versions&per_page=1')).json()) as {
          data: unknown[];
        }
      ).data[0];
    expect(await first()).toEqual({ id: 1, name: expect.any(String), versions: [] });
    sim.simulator.switches.shape = 'attributes';
    expect(await first()).toEqual({ id: 1, type: 'flows', attributes: { name: expect.any(String), versions: [] } });
  });

  test('above 100 a page are cut or refused, as switched', async () => {
    await using sim = await simulated();
    expect(await (await sim.call('/api/v1/flow-runs?per_page=500')).json()).toMatchObject({ meta: { per_page: 100 } });
    sim.simulator.switches.largePages = 'refuse';
    expect((await sim.call('/api/v1/flow-runs?per_page=500')).status).toBe(422);
  });

  test('are changed by writes', async () => {
    await using sim = await simulated();
    const total = async () =>
      ((await (await sim.call('/api/v1/data-pool')).json()) as { meta: { total: number } }).meta.total;
    const before = await total();
    const made = await sim.call('/api/v1/data-pool', { method: 'POST', body: '{"name":"new"}' });
    const { data } = (await made.json()) as { data: { id: number } };
    expect([made.status, await total()]).toEqual([201, before + 1]);
    expect((await sim.call(`/api/v1/data-pool/${data.id}`, { method: 'PATCH', body: '{"name":"newer"}' })).status).toBe(
      200,
    );
    expect(await (await sim.call(`/api/v1/data-pool/${data.id}`)).json()).toMatchObject({ data: { name: 'newer' } });
    expect((await sim.call(`/api/v1/data-pool/${data.id}`, { method: 'DELETE' })).status).toBe(200);
    expect(await total()).toBe(before);
  });
});

describe('flows', () => {
  test.each(['start', 'start/2', 'start/raw', 'manual'])('%s gives a run that ends after a while', async (path) => {
    await using sim = await simulated({ switches: { runMs: 5_000 } });
    const started = await sim.call(`/api/v1/flows/1/${path}`, { method: 'POST' });
    const { data } = (await started.json()) as { data: { id: number; status: number } };
    expect([started.status, data.status]).toEqual([200, 1]);
    const status = async () =>
      ((await (await sim.call(`/api/v1/flow-runs/${data.id}`)).json()) as { data: { status: number } }).data.status;
    expect(await status()).toBe(1);
    sim.clock.advance(5_000);
    expect([2, 3, 5]).toContain(await status());
  });

  test('without a deployed version are refused', async () => {
    await using sim = await simulated();
    expect((await sim.call('/api/v1/flows/10/start', { method: 'POST' })).status).toBe(422);
    expect((await sim.call('/api/v1/flows/999999/start', { method: 'POST' })).status).toBe(404);
  });
});

describe('errors', () => {
  test('are HTML for callers that did not ask for JSON, unless switched off', async () => {
    await using sim = await simulated();
    const html = await sim.call('/api/v1/nothing', { headers: { Accept: '*/*' } });
    expect(html.headers.get('content-type')).toMatch(/html/);
    sim.simulator.switches.htmlErrors = false;
    const json = await sim.call('/api/v1/nothing', { headers: { Accept: '*/*' } });
    expect(await message(json)).toBe('The route api/v1/nothing could not be found.');
  });

  test('405 names what is allowed', async () => {
    await using sim = await simulated();
    expect((await sim.call('/api/v1/data-pool/1', { method: 'POST' })).headers.get('allow')).toBe(
      'DELETE, GET, HEAD, PATCH',
    );
  });
});

describe('what arrived', () => {
  test('is recorded: when, with which headers and body, by whom, and how it ended', async () => {
    await using sim = await simulated();
    sim.clock.advance(500);
    await sim.call('/api/v1/data-pool?x=1', { method: 'POST', body: '{"name":"x"}', headers: { 'X-Mark': 'm' } });
    const [arrival] = sim.simulator.arrivals();
    expect(arrival).toMatchObject({
      monotonic: 500,
      method: 'POST',
      target: '/api/v1/data-pool?x=1',
      bodyBytes: 12,
      credential: 'primary',
      counted: true,
      status: 201,
      aborted: false,
    });
    expect(arrival!.headers.join()).toContain('X-Mark,m');
  });

  test('gives the greatest number within any 60 s, exactly', async () => {
    await using sim = await simulated();
    for (const wait of [0, 10_000, 10_000, 39_999, 1, 100_000]) {
      sim.clock.advance(wait);
      await sim.call('/api/v1/flows');
    }
    // At 0, 10, 20, 59.999 s: four. At 60 s the first is a minute old, and outside.
    expect(sim.simulator.stats().greatestIn60s).toBe(4);
  });

  test('is bounded, and the counts go on', async () => {
    await using sim = await simulated({ recordSize: 5 });
    for (let i = 0; i < 20; i++) await sim.call('/api/v1/flows');
    expect(sim.simulator.arrivals()).toHaveLength(5);
    expect(sim.simulator.stats().arrived).toBe(20);
  });
});

describe('the control endpoint', () => {
  test('shows and changes, uncounted; and can be left out', async () => {
    await using sim = await simulated();
    const control = (path: string, init?: RequestInit) => fetch(`${sim.simulator.url}/_simulator/${path}`, init);
    await control('switches', { method: 'PATCH', body: '{"limit":100}' });
    await control('foreign', { method: 'POST', body: '{"count":60}' });
    expect(limits(await sim.call('/api/v1/flows'))).toEqual(['100', '39']);
    await control('faults', {
      method: 'POST',
      body: '{"match":"GET /api/**","times":1,"fault":{"kind":"status","status":503}}',
    });
    expect((await sim.call('/api/v1/flows')).status).toBe(503);
    expect((await sim.call('/api/v1/flows')).status).toBe(200);
    expect(await (await control('stats')).json()).toMatchObject({ arrived: 3, counted: 2 });
    expect((await control('switches', { method: 'PATCH', body: '{"limits":1}' })).status).toBe(400);
    expect((await control('nothing')).status).toBe(404);
    await using without = await simulated({ control: false });
    expect((await fetch(`${without.simulator.url}/_simulator/stats`)).status).toBe(404);
  });
});
