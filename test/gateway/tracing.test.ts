import { describe, expect, test } from 'vitest';
import {
  arrived,
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  READER_KEY,
  type RunOptions,
  run,
  SPARE,
  TENANTS,
} from '../support/gateway.ts';
import { collector, type ReceivedSpan } from '../support/otlp-collector.ts';
import { redisServer } from '../support/redis.ts';

const CALLER = '00f067aa0ba902b7';
let traces = 0;

/** A trace that a caller has begun. */
function begun(flags = '01'): { id: string; headers: { traceparent: string } } {
  traces += 1;
  const id = traces.toString(16).padStart(32, 'a');
  return { id, headers: { traceparent: `00-${id}-${CALLER}-${flags}` } };
}

async function traced(
  tracing: Config = {},
  more: Config | ((upstream: string) => Config) = {},
  options: RunOptions = {},
) {
  const receiver = await collector();
  const gateway = await run({
    ...options,
    config: (upstream) =>
      configuration(upstream, {
        drain: { delay: '0ms' },
        tracing: { endpoint: receiver.endpoint, sample: 1, ...tracing },
        ...(typeof more === 'function' ? more(upstream) : more),
      }),
  });
  return {
    gateway,
    receiver,
    /** The spans of a trace; all have come by then. */
    async spansOf(id: string): Promise<readonly ReceivedSpan[]> {
      await gateway.drain();
      return receiver.of(id);
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await receiver[Symbol.asyncDispose]();
    },
  };
}

const named = (spans: readonly ReceivedSpan[], name: string) => spans.filter((each) => each.name === name);
const only = (spans: readonly ReceivedSpan[], name: string): ReceivedSpan => {
  const found = named(spans, name);
  expect(found, `${name} among ${spans.map((each) => each.name).join(', ')}`).toHaveLength(1);
  return found[0]!;
};
const SERVER = 'GET /api/v1/flows';
const CLIENT = 'GET /api/v1/**';
const isServer = ({ kind }: ReceivedSpan) => kind === 'server';

describe('a request that is fetched', () => {
  test('is a server span, in the trace of its caller, with one client span in it', async () => {
    await using tracing = await traced({ serviceName: 'patchgate-test' });
    const { id, headers } = begun();
    await tracing.gateway.fetch('/api/v1/flows/1', { headers });
    const spans = await tracing.spansOf(id);
    expect(spans).toHaveLength(2);
    const [server, client] = spans as [ReceivedSpan, ReceivedSpan];
    expect(server).toMatchObject({ name: SERVER, kind: 'server', parent: CALLER, failed: false });
    expect(server.attributes).toEqual({
      'http.request.method': 'GET',
      'http.route': '/api/v1/flows',
      'http.response.status_code': 200,
      'url.scheme': 'http',
      'patchgate.tenant': 'billing',
      'patchgate.cache': 'miss',
      'patchgate.quota.wait': 0,
    });
    expect(client).toMatchObject({ name: CLIENT, kind: 'client', parent: server.spanId, failed: false });
    expect(client.attributes).toEqual({
      'http.request.method': 'GET',
      'url.template': '/api/v1/**',
      'server.address': '127.0.0.1',
      'server.port': tracing.gateway.simulator.port,
      'http.response.status_code': 200,
      'patchgate.account': 'main',
      'patchgate.upstream': 'core',
      'patchgate.credential': 'primary',
    });
    expect(server.resource).toMatchObject({ 'service.name': 'patchgate-test', 'service.version': '0.1.0' });
    expect(client.tookMs).toBeLessThanOrEqual(server.tookMs);
  });

  test('carries no key, credential, path or query into a span, and its log line carries the trace id', async () => {
    await using tracing = await traced();
    const { id, headers } = begun();
    await tracing.gateway.fetch('/api/v1/flow-runs/canary-in-path?token=canary-in-query', { headers });
    const told = JSON.stringify(await tracing.spansOf(id));
    for (const secret of [BILLING_KEY, PRIMARY.apiKey, 'canary-in-query', 'canary-in-path'])
      expect(told).not.toContain(secret);
    const lines = tracing.gateway.logs().filter((line) => line['msg'] === 'request');
    expect(lines.map((line) => line['trace_id'])).toEqual([id]);
  });

  test.each([
    '0AF7-no-such-thing',
    `00-${'0'.repeat(32)}-${CALLER}-01`,
    `ff-${'a'.repeat(32)}-${CALLER}-01`,
    'x'.repeat(9_000),
  ])('begins a trace of its own where that of its caller is malformed: %.40s', async (traceparent) => {
    await using tracing = await traced();
    const headers = { traceparent, tracestate: 'vendor=canary' };
    expect((await tracing.gateway.fetch('/api/v1/flow-runs', { headers })).status).toBe(200);
    const [line] = tracing.gateway.logs();
    const server = (await tracing.spansOf(String(line!['trace_id']))).find(isServer);
    expect(server).toMatchObject({ parent: null, state: null });
  });
});

test('a hit is a server span alone', async () => {
  await using tracing = await traced();
  await tracing.gateway.fetch('/api/v1/flows');
  const { id, headers } = begun();
  await tracing.gateway.fetch('/api/v1/flows', { headers });
  const spans = await tracing.spansOf(id);
  expect(spans.map(({ kind, attributes }) => [kind, attributes['patchgate.cache']])).toEqual([['server', 'hit']]);
});

test('a request that waits shows for how long, and what it waited for', async () => {
  const tenants = { billing: { ...TENANTS.billing, quota: { rate: 300, burst: 1, maxWait: '10s' } } };
  await using tracing = await traced({}, { tenants });
  await tracing.gateway.fetch('/api/v1/flow-runs');
  const { id, headers } = begun();
  await tracing.gateway.fetch('/api/v1/flow-runs', { headers });
  const spans = await tracing.spansOf(id);
  const server = spans.find(isServer)!;
  const wait = only(spans, 'wait for a slot');
  expect(wait).toMatchObject({
    kind: 'inside',
    parent: server.spanId,
    attributes: { 'patchgate.quota.decision': 'admitted' },
  });
  expect(wait.tookMs).toBeGreaterThan(0);
  expect(server.attributes['patchgate.quota.wait']).toBeGreaterThan(0);
});

test('who joins a request under way is linked to it, and sends nothing', async () => {
  await using tracing = await traced(
    {},
    {},
    { simulator: { switches: { responseLatency: { kind: 'fixed', ms: 100 } } } },
  );
  const { gateway } = tracing;
  const [leader, follower] = [begun(), begun()];
  const first = gateway.fetch('/api/v1/flows', { headers: leader.headers });
  await eventually(() => gateway.simulator.stats().arrived === 1, 'the first is upstream');
  const second = await gateway.fetch('/api/v1/flows', { headers: follower.headers });
  expect((await first).status).toBe(200);
  expect(second.headers.get('cache-status')).toContain('collapsed');
  const joined = await tracing.spansOf(follower.id);
  const leading = tracing.receiver.of(leader.id).find(isServer)!;
  expect(joined.map(({ kind }) => kind)).toEqual(['server', 'inside']);
  const { parent, links } = only(joined, 'wait for the same request');
  expect(parent).toBe(joined[0]!.spanId);
  expect(links).toMatchObject([{ traceId: leader.id, spanId: leading.spanId }]);
});

test('a stale response is out at once; the refresh is in its trace', async () => {
  const rules = [{ match: 'GET /api/v1/flows/**', ttl: '0s', staleWhileRevalidate: '5m' }];
  await using tracing = await traced({}, { cache: { rules } });
  const { gateway } = tracing;
  await gateway.fetch('/api/v1/flows');
  const { id, headers } = begun();
  const stale = await gateway.fetch('/api/v1/flows', { headers });
  expect(stale.headers.get('cache-status')).toContain('stale-while-revalidate');
  const spans = await tracing.spansOf(id);
  const refresh = only(spans, 'refresh');
  expect(refresh.parent).toBe(spans.find(isServer)!.spanId);
  expect(spans.find(({ kind }) => kind === 'client')!.parent).toBe(refresh.spanId);
});

describe('a 401 from upstream', () => {
  test('shows as two attempts: the first failed, the second with another credential', async () => {
    await using tracing = await traced();
    tracing.gateway.simulator.credentials.revokeKey('primary');
    const { id, headers } = begun();
    expect((await tracing.gateway.fetch('/api/v1/flow-runs', { headers })).status).toBe(200);
    const spans = await tracing.spansOf(id);
    const attempts = spans.filter(({ kind }) => kind === 'client');
    expect(
      attempts.map(({ attributes: a }) => [
        a['patchgate.credential'],
        a['http.response.status_code'],
        a['error.type'],
        a['http.request.resend_count'],
      ]),
    ).toEqual([
      [PRIMARY.id, 401, '401', undefined],
      [SPARE.id, 200, undefined, 1],
    ]);
    expect(attempts.map(({ failed }) => failed)).toEqual([true, false]);
    const server = spans.find(isServer)!;
    expect(attempts.map(({ parent }) => parent)).toEqual([server.spanId, server.spanId]);
    expect(server).toMatchObject({ failed: false, attributes: { 'http.response.status_code': 200 } });
  });

  test('shows the wait for a fresh token between them', async () => {
    const accounts = (upstream: string) => ({
      accounts: { main: { quota: { burst: 200 }, credentials: [loginAt(upstream)] } },
    });
    await using login = await traced({}, accounts);
    login.gateway.simulator.credentials.expireTokens();
    const { id, headers } = begun();
    expect((await login.gateway.fetch('/api/v1/flow-runs', { headers })).status).toBe(200);
    const spans = (await login.spansOf(id)).filter(({ kind }) => kind !== 'server');
    expect(spans.map(({ name }) => name)).toEqual([CLIENT, 'wait for a credential', CLIENT]);
  });
});

describe('responses that are not from upstream', () => {
  test('a rejection is a server span with its code; the fault of a caller is no error', async () => {
    await using tracing = await traced();
    const [unknown, refused] = [begun(), begun()];
    const guess = { ...unknown.headers, Authorization: 'Bearer pgk_fake-guess' };
    expect(await codeOf(await tracing.gateway.fetch('/api/v1/flows', { headers: guess }))).toBe('key_unknown');
    const asReader = { ...refused.headers, Authorization: READER_KEY };
    for (let i = 0; i < 5; i++)
      await tracing.gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    expect(await codeOf(await tracing.gateway.fetch('/api/v1/flow-runs', { headers: asReader }))).toBe('tenant_quota');
    const [first] = await tracing.spansOf(unknown.id);
    expect(first).toMatchObject({
      failed: false,
      attributes: { 'patchgate.code': 'key_unknown', 'http.response.status_code': 401 },
    });
    expect(first!.attributes).not.toHaveProperty('patchgate.tenant');
    const spans = tracing.receiver.of(refused.id);
    expect(spans).toHaveLength(1);
    expect(spans[0]).toMatchObject({
      failed: false,
      attributes: { 'patchgate.code': 'tenant_quota', 'http.response.status_code': 429 },
    });
  });

  test('a timeout is an error of both spans, by name and without a message', async () => {
    await using tracing = await traced();
    tracing.gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    const { id, headers } = begun();
    expect((await tracing.gateway.fetch('/api/v1/flow-runs', { headers })).status).toBe(504);
    const spans = await tracing.spansOf(id);
    expect(spans.map(({ kind, failed, attributes }) => [kind, failed, attributes['error.type']])).toEqual([
      ['server', true, 'upstream_timeout'],
      ['client', true, 'timeout'],
    ]);
  });

  test('a 500 of upstream is an error of both, passed on as it is', async () => {
    await using tracing = await traced();
    tracing.gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'status', status: 500 } });
    const { id, headers } = begun();
    expect((await tracing.gateway.fetch('/api/v1/flow-runs', { headers })).status).toBe(500);
    const spans = await tracing.spansOf(id);
    expect(spans.map(({ failed, attributes }) => [failed, attributes['error.type']])).toEqual([
      [true, '500'],
      [true, '500'],
    ]);
  });
});

describe('with Redis', () => {
  test('what is asked of it shows: the decision, the look-up, the key of a write, what a write drops', async () => {
    await using redis = await redisServer();
    await using tracing = await traced({}, { redis: { url: redis.url, timeout: '1s' } });
    const [read, write] = [begun(), begun()];
    await tracing.gateway.fetch('/api/v1/flows', { headers: read.headers });
    await tracing.gateway.fetch('/api/v1/data-pool', {
      method: 'POST',
      body: '{"name":"x"}',
      headers: { ...write.headers, 'Idempotency-Key': 'fake-idempotency-key-1', Prefer: 'wait=10' },
    });
    const spans = await tracing.spansOf(read.id);
    const server = spans.find(isServer)!;
    for (const name of ['redis cache read', 'redis quota', 'redis cache announce']) {
      const [span] = named(spans, name);
      expect(span, name).toMatchObject({
        kind: 'client',
        parent: server.spanId,
        attributes: { 'db.system.name': 'redis' },
      });
    }
    const names = tracing.receiver.of(write.id).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['redis idempotency begin', 'redis quota', 'redis cache invalidate']));
    expect(JSON.stringify(tracing.receiver.spans())).not.toContain('fake-idempotency-key-1');
  });
});

describe('sampling', () => {
  const recorded = async (sample: number, headers: Record<string, string>) => {
    await using tracing = await traced({ sample });
    await tracing.gateway.fetch('/api/v1/flow-runs', { headers });
    const id = String(tracing.gateway.logs().find((line) => line['msg'] === 'request')!['trace_id']);
    expect(id).toMatch(/^[0-9a-f]{32}$/);
    return (await tracing.spansOf(id)).length;
  };

  test('is decided by the caller, if it has decided; else by chance', async () => {
    expect(await recorded(0, {})).toBe(0);
    expect(await recorded(1, {})).toBe(2);
    expect(await recorded(0, begun('01').headers)).toBe(2);
    expect(await recorded(1, begun('00').headers)).toBe(0);
  });
});

describe('Patchworks', () => {
  const OF_A_TRACE = ['traceparent', 'tracestate', 'baggage'] as const;
  const seen = async (tracing: Config | undefined, headers: Record<string, string>) => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { drain: { delay: '0ms' }, tracing }),
    });
    await gateway.fetch('/api/v1/flow-runs', { headers });
    const [arrival] = gateway.simulator.arrivals();
    return OF_A_TRACE.map((name) => arrived(arrival!.headers, name));
  };
  const sent = () => ({ ...begun().headers, tracestate: 'vendor=x', baggage: 'user=canary' });

  test('receives nothing of a trace unless that is configured', async () => {
    await using receiver = await collector();
    expect(await seen({ endpoint: receiver.endpoint, sample: 1 }, sent())).toEqual([undefined, undefined, undefined]);
    expect(await seen({}, sent())).toEqual([undefined, undefined, undefined]);
  });

  test('receives the span of the request, and the state of other vendors, where that is configured', async () => {
    await using tracing = await traced({ propagate: true });
    const { id, headers } = begun();
    await tracing.gateway.fetch('/api/v1/flow-runs', { headers: { ...headers, tracestate: 'vendor=x' } });
    const [arrival] = tracing.gateway.simulator.arrivals();
    const client = (await tracing.spansOf(id)).find(({ kind }) => kind === 'client')!;
    expect(arrived(arrival!.headers, 'traceparent')).toBe(`00-${id}-${client.spanId}-01`);
    expect(arrived(arrival!.headers, 'tracestate')).toBe('vendor=x');
    expect(arrival!.headers.filter((each) => each.toLowerCase() === 'traceparent')).toHaveLength(1);
  });

  test('receives also that a trace is not recorded', async () => {
    await using tracing = await traced({ propagate: true });
    const { id, headers } = begun('00');
    await tracing.gateway.fetch('/api/v1/flow-runs', { headers });
    const [arrival] = tracing.gateway.simulator.arrivals();
    expect(arrived(arrival!.headers, 'traceparent')).toMatch(new RegExp(`^00-${id}-(?!${CALLER})[0-9a-f]{16}-00$`));
  });

  test('gets what the caller sent, unchanged, from a gateway that takes no part in traces', async () => {
    const headers = sent();
    const unchanged = [headers.traceparent, headers.tracestate, headers.baggage];
    expect(await seen(undefined, headers)).toEqual(unchanged);
    expect(await seen({ propagate: true }, headers)).toEqual(unchanged);
  });
});

describe('the collector', () => {
  test('gets the headers it asks for, which are secrets', async () => {
    await using tracing = await traced({ headers: { 'x-collector-key': 'fake-collector-key' } });
    const { id, headers } = begun();
    await tracing.gateway.fetch('/api/v1/flow-runs', { headers });
    const shown = await (await fetch(`${tracing.gateway.adminUrl}/config`)).text();
    expect(await tracing.spansOf(id)).toHaveLength(2);
    const [request] = tracing.receiver.requests;
    expect(request).toMatchObject({ url: '/v1/traces', headers: { 'x-collector-key': 'fake-collector-key' } });
    expect(shown).toContain('x-collector-key');
    expect(shown + tracing.gateway.logText()).not.toContain('fake-collector-key');
  });

  test('that is away costs no request: what is lost is counted, and told once, and once when it is back', async () => {
    await using tracing = await traced();
    const { gateway, receiver } = tracing;
    receiver.status = 400;
    const lost = () => gateway.metric('patchgate_trace_spans_total', { outcome: 'failed' });
    const told = (message: string) => gateway.logs().filter((line) => String(line['msg']).startsWith(message)).length;
    for (let batch = 1; batch <= 2; batch++) {
      const before = await lost();
      expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
      await soon(async () => (await lost()) >= before + 2);
    }
    await soon(async () => told('traces cannot be delivered') > 0);
    expect(told('traces cannot be delivered')).toBe(1);
    receiver.status = 200;
    const { id, headers } = begun();
    await gateway.fetch('/api/v1/flow-runs', { headers });
    await soon(async () => told('traces are delivered again') > 0);
    expect(receiver.of(id)).toHaveLength(2);
    expect(told('traces are delivered again')).toBe(1);
    expect(await gateway.metric('patchgate_trace_spans_total', { outcome: 'exported' })).toBeGreaterThanOrEqual(2);
  });

  test.each(['hangs', 'is not there'])('that %s holds up neither a request nor a drain', async (how) => {
    await using tracing = await traced(how === 'hangs' ? {} : { endpoint: 'http://127.0.0.1:1/v1/traces' });
    tracing.receiver.status = null;
    expect((await tracing.gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    await tracing.gateway.drain();
    expect(tracing.receiver.spans()).toEqual([]);
  });

  test('is not another one before a restart; whether Patchworks receives traces is, at once', async () => {
    await using tracing = await traced();
    const { gateway } = tracing;
    const other = {
      endpoint: 'http://127.0.0.1:1/v1/traces',
      sample: 0.5,
      serviceName: 'x',
      headers: { a: 'fake-key-1' },
    };
    await gateway.reload((upstream) => configuration(upstream, { tracing: { ...other, propagate: true } }));
    const kept = gateway.logs().filter((line) => line['level'] === 'warn');
    expect(kept.map((line) => line['option'])).toEqual([
      'tracing.endpoint',
      'tracing.headers',
      'tracing.sample',
      'tracing.serviceName',
    ]);
    await gateway.fetch('/api/v1/flow-runs');
    expect(arrived(gateway.simulator.arrivals()[0]!.headers, 'traceparent')).toMatch(/^00-/);
  });
});

/** Batches leave once a second. */
async function soon(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('did not happen within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
