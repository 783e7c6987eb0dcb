import { createHash } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { rawRequest, sendRaw } from '../../test/support/raw-http.ts';
import type { Simulator } from './control.ts';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_SPARE_KEY, FAKE_USER, type SimulatorOptions } from './options.ts';
import { createSimulator } from './simulator.ts';

const JSON_HEADERS = { Accept: 'application/json', 'Content-Type': 'application/json' };

async function simulate(options: SimulatorOptions = {}) {
  const simulator = await createSimulator(options);
  return {
    simulator,
    ask: (path: string, init: RequestInit & { key?: string | null } = {}) => {
      const { key = FAKE_PRIMARY_KEY, headers, ...rest } = init;
      const authorization: Record<string, string> = key === null ? {} : { Authorization: key };
      return fetch(`${simulator.url}${path}`, {
        redirect: 'manual',
        signal: AbortSignal.timeout(5_000),
        ...rest,
        headers: { ...JSON_HEADERS, ...authorization, ...(headers as Record<string, string> | undefined) },
      });
    },
    [Symbol.asyncDispose]: () => simulator.close(),
  };
}

const post = (body: unknown) => ({ method: 'POST', body: JSON.stringify(body) });

async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`did not happen within 10 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The server's end of the next connection to a port of this process. */
function nextConnection(port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const onSocket = (published: unknown): void => {
      const { socket } = published as { socket: Socket };
      if (socket.localPort !== port) return;
      unsubscribe('net.server.socket', onSocket);
      resolve(socket);
    };
    subscribe('net.server.socket', onSocket);
  });
}

const remainingOf = (response: Response) => response.headers.get('x-ratelimit-remaining');
const countedOf = (simulator: Simulator) => simulator.stats().counted;

describe('credentials', () => {
  test('an API key works bare, and as Bearer only if that is switched on', async () => {
    await using api = await simulate();
    expect((await api.ask('/api/v1/flows')).status).toBe(200);
    expect((await api.ask('/api/v1/flows', { key: `Bearer ${FAKE_PRIMARY_KEY}` })).status).toBe(401);
    api.simulator.set({ bearerApiKey: true });
    expect((await api.ask('/api/v1/flows', { key: `Bearer ${FAKE_PRIMARY_KEY}` })).status).toBe(200);
  });

  test('a revoked key is 401 at once, and others go on', async () => {
    await using api = await simulate();
    expect(api.simulator.credentials.revokeKey('primary')).toBe(true);
    const rejected = await api.ask('/api/v1/flows');
    expect([rejected.status, await rejected.json()]).toEqual([401, { message: 'Unauthenticated.' }]);
    expect((await api.ask('/api/v1/flows', { key: FAKE_SPARE_KEY })).status).toBe(200);
  });

  test.each([
    ['/fabric/api/login', 'username'],
    ['/api/v1/login', 'email'],
  ])('a login at %s gives a token that works as Bearer until it expires', async (path, field) => {
    const clock = new ManualClock();
    await using api = await simulate({ clock, switches: { tokenLifeSeconds: 100 } });
    const login = await api.ask(path, { ...post({ [field]: FAKE_USER, password: FAKE_PASSWORD }), key: null });
    const body = (await login.json()) as { token: string };
    expect(body).toEqual({
      message: 'You have successfully logged in.',
      token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
      expires_in: 100,
    });
    const key = `Bearer ${body.token}`;
    expect((await api.ask('/api/v1/flows', { key: body.token })).status).toBe(401);
    clock.advance(99_999);
    expect((await api.ask('/api/v1/flows', { key })).status).toBe(200);
    clock.advance(1);
    expect((await api.ask('/api/v1/flows', { key })).status).toBe(401);
  });

  test('a login that is wrong is 401 or 422, one without fields 422, and none is counted', async () => {
    await using api = await simulate();
    const wrong = { ...post({ username: FAKE_USER, password: 'guess' }), key: null };
    expect((await api.ask('/fabric/api/login', wrong)).status).toBe(401);
    api.simulator.set({ loginFailure: 422 });
    expect((await api.ask('/fabric/api/login', wrong)).status).toBe(422);
    const empty = await api.ask('/fabric/api/login', { ...post({}), key: null });
    expect(await empty.json()).toEqual({
      message: 'The username field is required. (and 1 more error)',
      errors: { username: ['The username field is required.'], password: ['The password field is required.'] },
    });
    expect(countedOf(api.simulator)).toBe(0);
    api.simulator.set({ countLogins: true });
    expect(remainingOf(await api.ask('/fabric/api/login', wrong))).toBe('239');
  });

  test('tokens of one user can be ended, and so can one token', async () => {
    await using api = await simulate({ users: { a: 'x', b: 'y' } });
    const { credentials } = api.simulator;
    const [a, b, other] = [credentials.login('a', 'x'), credentials.login('b', 'y'), credentials.login('b', 'y')];
    credentials.expireTokens('a');
    expect(credentials.revokeToken(other!.token)).toBe(true);
    const statusOf = async (token: string) => (await api.ask('/api/v1/flows', { key: `Bearer ${token}` })).status;
    expect([await statusOf(a!.token), await statusOf(b!.token), await statusOf(other!.token)]).toEqual([401, 200, 401]);
  });

  test('a credential shows the data and spends the limit of its own account', async () => {
    await using api = await simulate({
      accounts: { one: { apiKeys: { primary: 'fake-one' }, limit: 3 }, two: { apiKeys: { primary: 'fake-two' } } },
    });
    const [one, two] = [
      await api.ask('/api/v1/flows', { key: 'fake-one' }),
      await api.ask('/api/v1/flows', { key: 'fake-two' }),
    ];
    expect([remainingOf(one), remainingOf(two)]).toEqual(['2', '239']);
    expect(await one.text()).not.toBe(await two.text());
    expect(api.simulator.arrivals().map((each) => [each.account, each.credential])).toEqual([
      ['one', 'primary'],
      ['two', 'primary'],
    ]);
  });
});

describe('the order of the checks', () => {
  test.each([
    ['an unknown route', 'GET', '/api/v1/nothing', FAKE_PRIMARY_KEY, 404],
    ['an unknown route without a key', 'GET', '/api/v1/nothing', null, 404],
    ['a wrong method without a key', 'DELETE', '/api/v1/flows', null, 405],
    ['a missing key', 'GET', '/api/v1/flows', null, 401],
    ['a missing key, missing model', 'GET', '/api/v1/flows/9999', null, 401],
    ['health', 'GET', '/health', null, 200],
  ])('%s is not counted and has no limit headers', async (_name, method, path, key, status) => {
    await using api = await simulate();
    const response = await api.ask(path, { method, key });
    expect([response.status, remainingOf(response), countedOf(api.simulator)]).toEqual([status, null, 0]);
    expect(response.headers.get('cache-control')).toBe('no-cache, private');
    if (status === 405) expect(response.headers.get('allow')).toBe('GET, HEAD');
  });

  test('a body above 8 MB is 413 before anything else, and not counted', async () => {
    await using api = await simulate();
    const body = Buffer.alloc(8 * 1024 * 1024 + 1, 'x');
    const response = await api.ask('/api/v1/data-pool', { method: 'POST', body, key: null });
    expect([response.status, await response.json()]).toEqual([413, { message: 'The POST data is too large.' }]);
    expect(countedOf(api.simulator)).toBe(0);
    expect(api.simulator.arrivals()[0]).toMatchObject({
      bodyBytes: body.length,
      bodySha256: createHash('sha256').update(body).digest('hex'),
    });
  });

  test.each([
    ['a missing model', 'GET', '/api/v1/flows/9999', undefined, 404],
    ['an unauthorised change', 'PATCH', '/api/v1/scripts/18', '{"name":"x"}', 403],
    ['an invalid body', 'POST', '/api/v1/data-pool', '{}', 422],
    ['a flow without a deployed version', 'POST', '/api/v1/flows/10/start', '', 422],
  ])('%s is counted', async (_name, method, path, body, status) => {
    await using api = await simulate();
    const response = await api.ask(path, { method, ...(body !== undefined && { body }) });
    expect([response.status, remainingOf(response), countedOf(api.simulator)]).toEqual([status, '239', 1]);
  });

  test('a throttled request is 429 even for a missing model, but 401 goes first', async () => {
    await using api = await simulate({ switches: { limit: 1 } });
    await api.ask('/api/v1/flows');
    const rejected = await api.ask('/api/v1/flows/9999');
    expect([rejected.status, await rejected.json()]).toEqual([429, { message: 'Too Many Attempts.' }]);
    expect((await api.ask('/api/v1/flows', { key: 'wrong' })).status).toBe(401);
    expect(api.simulator.stats()).toMatchObject({ arrived: 3, counted: 1, throttled: 1, unauthenticated: 1 });
  });

  test('keys of an account share the counter, or have one each: a switch', async () => {
    await using api = await simulate({ switches: { limit: 1 } });
    await api.ask('/api/v1/flows');
    expect((await api.ask('/api/v1/flows', { key: FAKE_SPARE_KEY })).status).toBe(429);
    api.simulator.set({ scope: 'key' });
    expect((await api.ask('/api/v1/flows', { key: FAKE_SPARE_KEY })).status).toBe(200);
  });

  test('JSON answers say what they answer: a switch', async () => {
    const body = '{"name":"one"}';
    const sha256 = createHash('sha256').update(body).digest('hex');
    await using api = await simulate({ switches: { echo: true } });
    const made = await api.ask('/api/v1/data-pool?mark=w1', { method: 'POST', body });
    expect(await made.json()).toMatchObject({
      data: { name: 'one' },
      echo: { target: '/api/v1/data-pool?mark=w1', bodySha256: sha256 },
    });
    const missing = await api.ask('/api/v1/flows/99999?mark=r1');
    expect(await missing.json()).toMatchObject({ echo: { target: '/api/v1/flows/99999?mark=r1', bodySha256: null } });
    api.simulator.set({ echo: false });
    expect(await (await api.ask('/api/v1/flows/1')).json()).not.toHaveProperty('echo');
  });

  test('errors are pages where JSON is not asked for, and without the switch they are not', async () => {
    await using api = await simulate();
    const page = await api.ask('/api/v1/flows', { key: null, headers: { Accept: '*/*' } });
    expect(page.headers.get('content-type')).toMatch('text/html');
    api.simulator.set({ htmlErrors: false });
    const json = await api.ask('/api/v1/flows', { key: null, headers: { Accept: '*/*' } });
    expect(json.headers.get('content-type')).toBe('application/json');
  });
});

describe('flows that are started', () => {
  const ways = ['start', 'start/1', 'start/raw', 'start/raw/1', 'manual', 'manual/1', 'manual/raw', 'manual/raw/1'];
  test.each(ways.flatMap((way) => ['', '{}'].map((body) => [way, body] as const)))(
    'by %s with the body "%s" give a run that is queued, picked, and ends when its time has come',
    async (way, body) => {
      const clock = new ManualClock();
      await using api = await simulate({ clock, switches: { runMs: 3_000 } });
      clock.advance(1_000);
      const started = await api.ask(`/api/v1/flows/1/${way}`, { method: 'POST', ...(body !== '' && { body }) });
      const { data } = (await started.json()) as { data: { id: number; status: number } };
      expect([started.status, data.status]).toEqual([200, 0]);
      const statusOf = async () =>
        ((await (await api.ask(`/api/v1/flow-runs/${data.id}`)).json()) as { data: { status: number } }).data.status;
      clock.advance(3_999);
      expect(await statusOf()).toBe(0);
      clock.advance(1);
      expect(await statusOf()).toBe(1);
      clock.advance(2_999);
      expect(await statusOf()).toBe(1);
      clock.advance(1);
      expect([2, 3, 5]).toContain(await statusOf());
      expect(clock.pending).toBe(0);
    },
  );

  test('end well, badly and in part, decided by their number', async () => {
    const clock = new ManualClock();
    await using api = await simulate({ clock });
    for (let i = 0; i < 10; i++) await api.ask('/api/v1/flow-runs/1/retry', { method: 'POST' });
    clock.advance(5_000);
    const runs = api.simulator.data.all('flow-runs').slice(-10);
    expect(runs.map((run) => run['status']).sort()).toEqual([2, 2, 2, 2, 2, 2, 2, 2, 3, 5]);
  });

  test('are rejected for a version that is not deployed, and for a payload that is not a string', async () => {
    await using api = await simulate();
    expect((await api.ask('/api/v1/flows/1/start/99', { method: 'POST' })).status).toBe(422);
    expect((await api.ask('/api/v1/flows/1/start', post({ payload: { a: 1 } }))).status).toBe(422);
    expect((await api.ask('/api/v1/flows/1/start', post({ payload: '{"a":1}' }))).status).toBe(200);
  });
});

describe('downloads', () => {
  test.each(['length', 'chunked'])('have as many bytes as asked for, by %s', async (framing) => {
    await using api = await simulate();
    const path = `/api/v1/payload-metadata/1/download?bytes=1000001&framing=${framing}`;
    const response = await api.ask(path);
    expect(response.headers.get('content-length')).toBe(framing === 'length' ? '1000001' : null);
    expect((await response.arrayBuffer()).byteLength).toBe(1_000_001);
  });

  test('stop when the reader stops: a download of 4 GiB without a reader takes no memory', async () => {
    await using api = await simulate();
    const abort = new AbortController();
    const bytes = 4 * 1024 ** 3;
    const response = await api.ask(`/api/v1/payload-metadata/1/download?bytes=${bytes}`, { signal: abort.signal });
    expect(response.headers.get('content-length')).toBe(String(bytes));
    const before = process.memoryUsage().arrayBuffers;
    for (let turn = 0; turn < 2_000; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024);
    abort.abort();
    await eventually(() => api.simulator.arrivals()[0]?.aborted === true, 'the abort is recorded');
  });

  test('may be redirects, and a value that no header carries is 422', async () => {
    await using api = await simulate();
    const redirect = await api.ask('/api/v1/payload-metadata/1/download?redirect=https://files.example.test/1');
    expect([redirect.status, redirect.headers.get('location')]).toEqual([302, 'https://files.example.test/1']);
    expect((await api.ask('/api/v1/payload-metadata/1/download?type=a%0Ab')).status).toBe(422);
    expect((await api.ask('/health')).status).toBe(200);
  });
});

describe('the record', () => {
  test('has the request as it was sent: target, headers, hash of the body', async () => {
    const clock = new ManualClock();
    await using api = await simulate({ clock });
    clock.advance(1_234);
    const body = '{"name":"☃"}';
    const head = [
      `Authorization: ${FAKE_PRIMARY_KEY}`,
      'X-Odd:  a',
      'X-Odd: b',
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    await sendRaw(api.simulator.port, rawRequest('POST /api/v1/data-pool/?a=%5B1%5D', head, body));
    const [arrival] = api.simulator.arrivals();
    expect(arrival).toMatchObject({
      at: clock.now(),
      monotonic: 1_234,
      method: 'POST',
      target: '/api/v1/data-pool/?a=%5B1%5D',
      bodyBytes: 14,
      bodySha256: createHash('sha256').update(body).digest('hex'),
      account: 'main',
      credential: 'primary',
      counted: true,
      status: 201,
      aborted: false,
    });
    expect(arrival!.headers.join('|')).toContain('X-Odd|a|X-Odd|b');
  });

  test('keeps the latest only, and counts go on', async () => {
    await using api = await simulate({ recordSize: 3 });
    for (let id = 1; id <= 5; id++) await api.ask(`/api/v1/flows/${id}`);
    expect(api.simulator.arrivals().map((each) => each.target.at(-1))).toEqual(['3', '4', '5']);
    expect(api.simulator.stats()).toMatchObject({ arrived: 5, counted: 5 });
  });

  test('tells the greatest number counted within 60 s, across windows of the throttle', async () => {
    const clock = new ManualClock();
    await using api = await simulate({ clock, switches: { limit: 4 } });
    const burst = async (count: number) => {
      for (let i = 0; i < count; i++) await api.ask('/api/v1/flows');
    };
    await burst(1);
    clock.advance(59_000);
    await burst(5);
    clock.advance(1_000);
    await burst(4);
    expect(api.simulator.stats().accounts['main']).toEqual({
      counted: 8,
      throttled: 2,
      greatestCountedIn60s: 7,
      external: 0,
    });
  });

  test('shows an upload that was broken off, which is neither whole nor counted', async () => {
    await using api = await simulate();
    const head = [`Authorization: ${FAKE_PRIMARY_KEY}`, 'Content-Length: 1000'];
    await sendRaw(api.simulator.port, rawRequest('POST /api/v1/data-pool', head, 'x'.repeat(10)), 200);
    await eventually(() => api.simulator.arrivals()[0]?.finishedAt != null, 'the end is recorded');
    expect(api.simulator.arrivals()[0]).toMatchObject({
      bodyBytes: 10,
      bodySha256: null,
      counted: false,
      aborted: true,
      status: null,
    });
  });

  test('external usage takes from the account and is not counted for the gateway', async () => {
    await using api = await simulate();
    expect(api.simulator.useExternally(100)).toBe(100);
    expect(remainingOf(await api.ask('/api/v1/flows'))).toBe('139');
    expect(api.simulator.stats().accounts['main']).toMatchObject({
      counted: 1,
      external: 100,
      greatestCountedIn60s: 1,
    });
  });
});

describe('latency', () => {
  test('before the counter delays the arrival, and after it the response', async () => {
    const clock = new ManualClock();
    const arrivalLatency = { kind: 'fixed', ms: 40 } as const;
    const responseLatency = { kind: 'fixed', ms: 500 } as const;
    await using api = await simulate({ clock, switches: { arrivalLatency, responseLatency } });
    const pending = api.ask('/api/v1/flows');
    await eventually(() => clock.pending === 1, 'the request is on its way');
    expect(api.simulator.stats().arrived).toBe(0);
    clock.advance(40);
    expect(api.simulator.arrivals()[0]).toMatchObject({ monotonic: 40, counted: true, status: null });
    clock.advance(500);
    expect((await pending).status).toBe(200);
  });

  test('a request whose caller leaves while it is on its way arrives, counts, and does its work', async () => {
    const clock = new ManualClock();
    await using api = await simulate({ clock, switches: { arrivalLatency: { kind: 'fixed', ms: 40 } } });
    const accepted = nextConnection(api.simulator.port);
    const runs = api.simulator.data.all('flow-runs').length;
    const abort = new AbortController();
    const pending = api.ask('/api/v1/flows/1/start', { method: 'POST', signal: abort.signal });
    await eventually(() => clock.pending === 1, 'the request is on its way');
    // The server must have noticed the close before the clock moves; otherwise the test shows nothing.
    const closed = once(await accepted, 'close', { signal: AbortSignal.timeout(2_000) });
    abort.abort();
    await expect(pending).rejects.toThrow();
    await closed;
    expect(api.simulator.stats().arrived).toBe(0);
    clock.advance(40);
    expect(countedOf(api.simulator)).toBe(1);
    expect(api.simulator.data.all('flow-runs')).toHaveLength(runs + 1);
    expect(api.simulator.arrivals()[0]).toMatchObject({ aborted: true, status: null, finishedAt: clock.now() });
  });

  test('a response is cancelled when its caller disconnects', async () => {
    const clock = new ManualClock();
    await using api = await simulate({ clock, switches: { responseLatency: { kind: 'fixed', ms: 500 } } });
    const abort = new AbortController();
    const pending = api.ask('/api/v1/flows', { signal: abort.signal });
    await eventually(() => clock.pending === 1, 'the response travels');
    abort.abort();
    await expect(pending).rejects.toThrow();
    await eventually(() => clock.pending === 0, 'the response is cancelled');
    expect(api.simulator.arrivals()[0]).toMatchObject({ counted: true, aborted: true, status: null });
  });

  test('closing ends what is on its way and leaves no timer', async () => {
    const clock = new ManualClock();
    const api = await simulate({ clock, switches: { arrivalLatency: { kind: 'fixed', ms: 40 } } });
    const pending = api.ask('/api/v1/flows');
    await eventually(() => clock.pending === 1, 'the request is on its way');
    await api.simulator.close();
    await expect(pending).rejects.toThrow();
    expect(clock.pending).toBe(0);
    await api.simulator.close();
  });
});

describe('options', () => {
  test.each([
    [{ port: 70_000 }, /port/],
    [{ recordSize: 0 }, /recordSize/],
    [{ switches: { limit: 0 } }, /limit/],
    [{ switches: { responseLatency: { kind: 'fixed', ms: -1 } } }, /responseLatency/],
    [{ switches: { colour: 'red' } }, /colour/],
    [{ accounts: {} }, /account/],
    [{ accounts: { a: { limit: 0 } } }, /option accounts\.a\.limit must be a whole number from 1/],
    [
      { accounts: { a: { tier: 'trial' } } },
      /option accounts\.a\.tier must be one of growth, professional, enterprise/,
    ],
    [{ accounts: { a: { operations: -1 } } }, /option accounts\.a\.operations must be a whole number from 0/],
    [{ switches: { tier: 'toString' } }, /switch tier must be one of growth/],
    [{ switches: { operationsTimeZone: 'Mars/Base' } }, /switch operationsTimeZone must be an IANA time zone/],
    [{ switches: { operationsTimeZone: undefined } }, /switch operationsTimeZone must be an IANA time zone/],
    [{ switches: { operationsUsedUp: 500 } }, /switch operationsUsedUp must be one of accept, 402, 403, 429/],
    [{ switches: { connectorRequests: 0.5 } }, /switch connectorRequests must be a whole number from 0/],
    [{ switches: { limitHeaders: { kind: 'some' } } }, /switch limitHeaders kind must be one of own, none, foreign/],
    [{ switches: { limitHeaders: { kind: 'foreign' } } }, /switch limitHeaders limit must be a whole number from 1/],
    [{ switches: { limitHeaders: 'none' } }, /switch limitHeaders must be limit headers such as/],
    [{ accounts: { a: { apiKeys: { k: 'same' } }, b: { apiKeys: { k: 'same' } } } }, /account b/],
  ])('that are wrong are named: %j', async (options, message) => {
    await expect(createSimulator(options as SimulatorOptions)).rejects.toThrow(message);
  });

  test('a port that is taken fails, and says so', async () => {
    await using api = await simulate();
    await expect(createSimulator({ port: api.simulator.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});
