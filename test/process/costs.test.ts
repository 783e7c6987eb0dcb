import { createServer } from 'node:http';
import { describe, expect, test } from 'vitest';
import { type Call, counted } from '../support/counted.ts';
import { BILLING_KEY, READER_KEY, sha256 } from '../support/gateway.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

/**
 * What a request costs, in counts: they are the same on every machine, where times are not. A change that makes a path
 * dearer fails here; one that makes it cheaper should lower the number. docs/benchmarks.md has the times.
 */
const BODY = JSON.stringify({ data: Array.from({ length: 20 }, (_, id) => ({ id, name: `flow-${id}` })) });
// On a replica that has just joined there may be nothing at once.
const auth = { 'X-API-Key': BILLING_KEY, Prefer: 'wait=10' };
const LIST = '/api/v1/flows?page=1';
const RUNS = '/api/v1/flow-runs?page=1';

/** Answers everything at once, and counts. */
async function upstream() {
  let requests = 0;
  const server = createServer((incoming, outgoing) => {
    requests += 1;
    incoming.resume();
    outgoing.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': BODY.length,
      'X-RateLimit-Remaining': '8999999',
      ETag: '"fixed"',
    });
    outgoing.end(BODY);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const configured = (origin: string, more: Record<string, unknown> = {}) => ({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  accounts: {
    main: {
      quota: { limit: 9_000_000, ceiling: 8_000_000, burst: 8_000_000 },
      credentials: [{ id: 'only', apiKey: 'fake-patchworks-key' }],
    },
  },
  upstreams: { core: { origin }, start: { origin } },
  cache: {
    rules: [
      { match: 'GET /api/v1/flow-runs/**', store: false },
      { match: 'GET /api/v1/flows/**', ttl: '1h' },
    ],
  },
  limits: { requestsPerSecond: 10_000_000, failedAuth: 1_000_000 },
  tenants: {
    billing: {
      keys: [{ id: 'only', sha256: sha256(BILLING_KEY) }],
      quota: { rate: 8_000_000, burst: 8_000_000, maxWait: '0s' },
    },
    reader: { keys: [{ id: 'only', sha256: sha256(READER_KEY) }], quota: { rate: 1, burst: 1, maxWait: '0s' } },
  },
  ...more,
});

interface Path {
  readonly call: (turn: number) => Call;
  /** Bytes allocated for a request, in heap and buffers, Node's own included; a tenth above what was measured (runs differ by a fiftieth). */
  readonly bytes: number;
  readonly upstreamCalls: number;
  /** Commands in Redis, scripts counted as one. */
  readonly commands: number;
}

/** Pages that nobody has asked for. */
let latestPage = 1_000;

const paths: Record<string, Path> = {
  'a cached hit': {
    call: () => ({ path: LIST, headers: auth, status: 200 }),
    bytes: 25_500,
    upstreamCalls: 0,
    commands: 0,
  },
  'a hit that the caller has already (304)': {
    call: () => ({ path: LIST, headers: { ...auth, 'If-None-Match': '"fixed"' }, status: 304 }),
    bytes: 25_200,
    upstreamCalls: 0,
    commands: 0,
  },
  'a miss, stored for all replicas': {
    call: () => ({ path: `/api/v1/flows?page=${++latestPage}`, headers: auth, status: 200 }),
    bytes: 71_500,
    upstreamCalls: 1,
    commands: 6,
  },
  'a GET that is passed on': {
    call: () => ({ path: RUNS, headers: auth, status: 200 }),
    bytes: 45_000,
    upstreamCalls: 1,
    commands: 2,
  },
  'a POST with a body': {
    call: () => ({
      method: 'POST',
      path: '/api/v1/flow-runs',
      headers: { ...auth, 'Content-Type': 'application/json' },
      body: '{"a":1}',
      status: 200,
    }),
    bytes: 49_500,
    upstreamCalls: 1,
    commands: 3,
  },
  'a tenant that has used up its quota': {
    call: () => ({ path: RUNS, headers: { 'X-API-Key': READER_KEY }, status: 429 }),
    bytes: 27_200,
    upstreamCalls: 0,
    commands: 0,
  },
  'an unknown key': {
    call: () => ({ path: LIST, headers: { 'X-API-Key': 'pgk_unknown_fake-key' }, status: 401 }),
    bytes: 25_000,
    upstreamCalls: 0,
    // Each counts until its address is blocked, over all replicas; here that never happens.
    commands: 1,
  },
};

/** What is compiled and remembered on the way is no cost of a request: it is over by then. */
const WARM_UP = 3_000;
const CALLS = 1_000;

const first = (): Call => ({ path: RUNS, headers: { 'X-API-Key': READER_KEY, Prefer: 'wait=10' }, status: 200 });

describe.each(Object.entries(paths))('%s', (_, path) => {
  test('allocates no more than it did when this was written', async () => {
    await using origin = await upstream();
    await using gateway = await counted(configured(origin.url));
    await gateway.call(1, first);
    await gateway.call(WARM_UP, path.call);
    const bytes = await gateway.bytesPerCall(CALLS, path.call);
    expect(bytes).toBeLessThan(path.bytes);
    // The counter counts: less than the request line and the log line together is no measurement.
    expect(bytes).toBeGreaterThan(1_000);
  });

  test('asks upstream and Redis as often as it has to', async () => {
    await using redis = await redisServer();
    await using origin = await upstream();
    await using gateway = await counted(configured(origin.url, { redis: { url: redis.url } }));
    await gateway.call(1, first);
    await gateway.call(10, path.call);
    using watch = await watched(redis);
    const before = { upstream: origin.requests(), commands: watch.commands() };
    await gateway.call(200, path.call);
    expect((origin.requests() - before.upstream) / 200).toBe(path.upstreamCalls);
    const each = (watch.commands() - before.commands) / 200;
    expect(each).toBeGreaterThan(path.commands - 0.1);
    // Beats and bundles of the guard come by the clock, however many requests there are.
    expect(each).toBeLessThan(path.commands + 0.5);
  });
});

test('those who come together ask Redis together', async () => {
  await using redis = await redisServer();
  await using origin = await upstream();
  await using gateway = await counted(configured(origin.url, { redis: { url: redis.url } }));
  const passedOn = paths['a GET that is passed on'] as Path;
  await gateway.call(1, first);
  await gateway.crowd(200, 32, passedOn.call);
  using watch = await watched(redis);
  const before = { upstream: origin.requests(), commands: watch.commands() };
  await gateway.crowd(1_000, 32, passedOn.call);
  expect(origin.requests() - before.upstream).toBe(1_000);
  // Alone each takes two. How many come in one turn of the event loop is for the machine to say: some ten of 32 here.
  expect((watch.commands() - before.commands) / 1_000).toBeLessThan(0.8);
});

/** Commands that reach Redis from now on; what a script does within is one with it. */
async function watched(redis: RedisServer) {
  let commands = 0;
  const monitor = await redis.client().monitor();
  monitor.on('monitor', (_time: string, _command: string[], source: string) => {
    if (source !== 'lua') commands += 1;
  });
  return { commands: () => commands, [Symbol.dispose]: () => monitor.disconnect() };
}
