import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import {
  type Config,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  type Running,
  run,
  TENANTS,
} from '../support/gateway.ts';

const RETRIES = { max: 2, budget: 100 };
/** The tests cause failures on purpose, so the breaker is off. */
const core =
  (more: Config = {}) =>
  (upstream: string) =>
    configuration(upstream, {
      upstreams: {
        core: { origin: upstream, timeout: '1s', retries: RETRIES, breaker: { enabled: false }, ...more },
        start: { origin: upstream },
      },
    });

const READ = '/api/v1/flow-runs';
const WRITE = '/api/v1/data-pool';
const write = (gateway: Running, headers: Record<string, string> = {}) =>
  gateway.fetch(WRITE, { method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json', ...headers } });
const ended = (sent: Promise<Response>) => sent.then((response) => response.arrayBuffer()).catch(() => null);

const FAULTS: readonly (readonly [name: string, fault: Fault, readsArrive: number])[] = [
  ['reset before a response', { kind: 'reset', when: 'before' }, 3],
  ['garbage', { kind: 'garbage' }, 3],
  ['502', { kind: 'status', status: 502 }, 3],
  ['503', { kind: 'status', status: 503 }, 3],
  ['504', { kind: 'status', status: 504 }, 3],
  ['503 that asks for a long wait', { kind: 'status', status: 503, headers: { 'Retry-After': '60' } }, 1],
  ['500', { kind: 'status', status: 500 }, 1],
  ['429', { kind: 'status', status: 429, headers: { 'Retry-After': '1' } }, 1],
  ['404', { kind: 'status', status: 404 }, 1],
  ['no response', { kind: 'stall', when: 'before' }, 1],
  ['a body that stalls', { kind: 'stall', when: 'body' }, 1],
  ['reset after the headers', { kind: 'reset', when: 'after' }, 1],
  ['truncated by length', { kind: 'truncate', framing: 'length' }, 1],
  ['truncated in chunks', { kind: 'truncate', framing: 'chunked' }, 1],
  ['drip', { kind: 'drip', pieces: 4, pauseMs: 20 }, 1],
  ['delay', { kind: 'delay', ms: 50 }, 1],
  ['headers', { kind: 'headers', headers: { 'X-Odd': '1' } }, 1],
];

describe.each(FAULTS)('with this fault in every response: %s', (_name, fault, readsArrive) => {
  test('a write reaches the upstream once, also with an Idempotency-Key; a read as often as is safe, and each attempt takes a slot', async () => {
    await using gateway = await run({ config: core() });
    const { simulator } = gateway;
    simulator.fault({ match: '* /api/v1/**', fault });
    await ended(write(gateway));
    expect(simulator.arrivals()).toHaveLength(1);
    // A 429 starts a cooldown of the account, and later requests would not be sent.
    if (fault.kind === 'status' && fault.status === 429) return;
    await ended(write(gateway, { 'Idempotency-Key': 'once' }));
    expect(simulator.arrivals().filter(({ method }) => method === 'POST')).toHaveLength(2);
    await ended(gateway.fetch(READ));
    await ended(gateway.fetch(READ, { method: 'HEAD' }));
    const reads = (method: string) => simulator.arrivals().filter((each) => each.method === method).length;
    expect(reads('GET')).toBe(readsArrive);
    expect(reads('HEAD')).toBeLessThanOrEqual(3);
    // The gateway's first request also has a slot.
    const { arrived } = simulator.stats();
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(arrived + 1);
    expect(await gateway.metric('patchgate_upstream_in_flight')).toBe(0);
  });
});

test('a read that loses its connection, or meets a restarting application, gets the response of the next attempt', async () => {
  await using gateway = await run({ config: core() });
  gateway.simulator.fault({ match: 'GET /api/v1/**', fault: { kind: 'reset', when: 'before' }, times: 1 });
  expect((await gateway.fetch(READ)).status).toBe(200);
  gateway.simulator.fault({
    match: 'GET /api/v1/**',
    fault: { kind: 'status', status: 503, headers: { 'Retry-After': '0' } },
    times: 2,
  });
  expect((await gateway.fetch(READ)).status).toBe(200);
  expect(gateway.simulator.arrivals()).toHaveLength(5);
  expect(await gateway.metric('patchgate_upstream_retries_total')).toBe(3);
});

/** A port without a listener until `open`. `seen` has the request lines of all requests after that. */
async function closedPort() {
  const seen: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      seen.push(...(chunk.toString('latin1').match(/^[A-Z]+ \S+ HTTP/gm) ?? []));
      socket.write('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}');
    });
  });
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  await listen(0);
  const { port } = server.address() as { port: number };
  await close();
  return { seen, origin: `http://127.0.0.1:${port}`, open: () => listen(port), [Symbol.asyncDispose]: close };
}

describe('a write to a port that refuses connections', () => {
  test('is sent again, arrives once, and costs nothing for the attempts that sent no byte', async () => {
    await using port = await closedPort();
    // The jitter is read after the first failure: the port opens in the pause before the second attempt.
    let failed = (): void => {};
    const firstFailure = new Promise<void>((resolve) => {
      failed = resolve;
    });
    await using gateway = await run({
      random: () => {
        failed();
        return 0.999;
      },
      config: (upstream) =>
        configuration(upstream, {
          upstreams: { core: { origin: port.origin, retries: RETRIES }, start: { origin: upstream } },
          accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY] } },
        }),
      cold: true,
    });
    const sent = write(gateway);
    await firstFailure;
    await port.open();
    expect((await sent).status).toBe(201);
    expect(port.seen).toEqual([`POST ${WRITE} HTTP`]);
    expect(await gateway.metric('patchgate_upstream_requests_total', { status: 'unreachable' })).toBeGreaterThan(0);
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(1);
  });

  test('is 502 after three attempts, and costs nothing', async () => {
    await using port = await closedPort();
    await using gateway = await run({ config: () => core()(port.origin), cold: true });
    expect(await codeOf(await write(gateway))).toBe('upstream_unreachable');
    expect(await gateway.metric('patchgate_upstream_requests_total', { status: 'unreachable' })).toBe(3);
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(0);
  });

  test('with a streamed body is not sent again', async () => {
    await using port = await closedPort();
    const config = { ...core()(port.origin), limits: { bufferedBody: '1KiB' } };
    await using gateway = await run({ config: () => config, cold: true });
    const large = await gateway.fetch(WRITE, { method: 'POST', body: 'x'.repeat(2_000) });
    expect(await codeOf(large)).toBe('upstream_unreachable');
    expect(await gateway.metric('patchgate_upstream_requests_total', { status: 'unreachable' })).toBe(1);
  });
});

describe('a retry', () => {
  const reset = { match: '* /api/v1/**', fault: { kind: 'reset', when: 'before' } } as const;

  test('is not made without a slot: the caller gets the first failure, and the ceiling holds', async () => {
    const config = (upstream: string) => ({
      ...core()(upstream),
      tenants: { ...TENANTS, billing: { ...TENANTS.billing, quota: { rate: 1, burst: 5, maxWait: '0s' } } },
    });
    await using gateway = await run({ config });
    while ((await gateway.fetch(READ)).headers.get('x-ratelimit-remaining') !== '1');
    const { arrived } = gateway.simulator.stats();
    // The last token is for the first attempt.
    gateway.simulator.fault(reset);
    expect(await codeOf(await gateway.fetch(READ))).toBe('upstream_protocol');
    expect(await codeOf(await gateway.fetch(READ))).toBe('tenant_quota');
    expect(gateway.simulator.stats().arrived).toBe(arrived + 1);
  });

  test('counts against the ceiling, however many requests fail at once', async () => {
    const config = (upstream: string) => ({
      ...core()(upstream),
      accounts: { main: { quota: { ceiling: 30, burst: 30 }, credentials: [PRIMARY] } },
    });
    await using gateway = await run({ config });
    gateway.simulator.fault(reset);
    await Promise.all(Array.from({ length: 100 }, (_, i) => ended(gateway.fetch(`${READ}/${i}`))));
    const { arrived } = gateway.simulator.stats();
    expect(arrived).toBeLessThanOrEqual(29);
    // At once, a burst takes half of the ceiling.
    expect(arrived).toBeGreaterThan(10);
  });

  test('is made for a tenth of the requests at most, besides the two of a quiet gateway', async () => {
    await using gateway = await run({ config: core({ retries: { max: 2, budget: 10 } }) });
    gateway.simulator.fault(reset);
    for (let i = 0; i < 40; i += 1) await ended(gateway.fetch(READ));
    const { arrived } = gateway.simulator.stats();
    expect(arrived).toBeGreaterThan(40);
    expect(arrived).toBeLessThanOrEqual(40 + 41 * 0.1 + 2);
  });

  test.each([
    ['max', { max: 0 }, 1],
    ['max', { max: 1, budget: 100 }, 2],
    ['budget', { budget: 0 }, 1],
  ])('is not made beyond retries.%s: %j', async (_option, retries, arrivals) => {
    await using gateway = await run({ config: core({ retries }) });
    gateway.simulator.fault(reset);
    await ended(gateway.fetch(READ));
    expect(gateway.simulator.arrivals()).toHaveLength(arrivals);
  });

  test('is not made after the client disconnected', async () => {
    await using gateway = await run({ config: core({ timeout: '20s' }) });
    const fault = { kind: 'status', status: 503, headers: { 'Retry-After': '10' } } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/**', fault });
    const client = new AbortController();
    const disconnected = ended(gateway.fetch(READ, { signal: client.signal }));
    await eventually(
      () => gateway.metric('patchgate_upstream_requests_total', { status: '503' }).then(Boolean),
      'a 503',
    );
    client.abort();
    await disconnected;
    await eventually(
      async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 0,
      'the request has ended',
    );
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect(await gateway.metric('patchgate_upstream_in_flight')).toBe(0);
  });
});

test('a reload changes retries at once', async () => {
  await using gateway = await run({ config: core() });
  gateway.simulator.fault({ match: '* /api/v1/**', fault: { kind: 'reset', when: 'before' } });
  await gateway.reload(core({ retries: { max: 0 } }));
  await ended(gateway.fetch(READ));
  expect(gateway.simulator.arrivals()).toHaveLength(1);
});
