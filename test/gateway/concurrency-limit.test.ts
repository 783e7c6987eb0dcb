import { createServer, type ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import {
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  TENANTS,
} from '../support/gateway.ts';

/** An upstream that responds on `respondOne`. It counts the requests in flight at once, from the request to the last byte. */
async function manualUpstream() {
  const open: ServerResponse[] = [];
  const targets: string[] = [];
  let [inFlight, maxInFlight] = [0, 0];
  const server = createServer((incoming, outgoing) => {
    targets.push(incoming.url ?? '');
    incoming.resume();
    inFlight += 1;
    maxInFlight = Math.max(maxInFlight, inFlight);
    outgoing.once('close', () => {
      inFlight -= 1;
      open.splice(open.indexOf(outgoing), open.includes(outgoing) ? 1 : 0);
    });
    if (incoming.url?.includes('warm')) outgoing.writeHead(200, { 'X-RateLimit-Remaining': '1999' }).end('{}');
    else open.push(outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    open,
    targets,
    maxInFlight: () => maxInFlight,
    respondOne: () => open[0]?.end('{}'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

type ManualUpstream = Awaited<ReturnType<typeof manualUpstream>>;

const limited = (url: string, maxInFlight: number, more: Config = {}): Config =>
  configuration(url, {
    upstreams: { core: { origin: url, timeout: '30s', maxInFlight }, start: { origin: url } },
    accounts: { main: { quota: { limit: 2_000, ceiling: 1_000, burst: 1_000 }, credentials: [PRIMARY] } },
    tenants: {
      ...TENANTS,
      billing: { ...TENANTS.billing, quota: { rate: 1_000, burst: 1_000, maxWait: '20s', maxInFlight: 1_000 } },
    },
    cache: { rules: [] },
    ...more,
  });

async function started(upstream: ManualUpstream, config: Config): Promise<Running> {
  const gateway = await run({ config: () => config, cold: true });
  await (await gateway.fetch('/api/v1/warm')).arrayBuffer();
  upstream.targets.length = 0;
  return gateway;
}
const waiting = (gateway: Running) => gateway.metric('patchgate_upstream_waiting', { upstream: 'core' });
const inFlight = (gateway: Running) => gateway.metric('patchgate_upstream_in_flight', { upstream: 'core' });
const slots = (gateway: Running) => gateway.metric('patchgate_quota_slots_in_use');

describe('tenants.X.quota.maxInFlight', () => {
  const asReader = { headers: { Authorization: `Bearer ${READER_KEY}` } };

  test('a tenant whose responses do not end leaves half of the permits to others, without an option', async () => {
    await using upstream = await manualUpstream();
    const config = limited(upstream.url, 4, { tenants: TENANTS });
    await using gateway = await started(upstream, config);
    const client = new AbortController();
    const slow = Array.from({ length: 4 }, (_, i) =>
      gateway.fetch(`/api/v1/slow/${i}`, { signal: client.signal, headers: { Prefer: 'wait=30' } }).catch(() => null),
    );
    await eventually(async () => (await waiting(gateway)) === 2, 'two hold permits, and two wait');
    const other = gateway.fetch('/api/v1/other', asReader);
    await eventually(() => upstream.targets.includes('/api/v1/other'), 'the request of the other tenant is sent');
    expect(await inFlight(gateway)).toBe(3);
    upstream.open.at(-1)?.end('{}');
    expect((await other).status).toBe(200);
    client.abort();
    await Promise.all(slow);
  });

  test('of a tenant is changed by a reload, for the requests that wait already', async () => {
    await using upstream = await manualUpstream();
    const allowing = (maxInFlight: number) =>
      limited(upstream.url, 4, {
        tenants: { billing: { ...TENANTS.billing, quota: { ...TENANTS.billing.quota, maxWait: '20s', maxInFlight } } },
      });
    await using gateway = await started(upstream, allowing(1));
    const responses = [gateway.fetch('/api/v1/x/1'), gateway.fetch('/api/v1/x/2')];
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits');
    await gateway.reload(() => allowing(2));
    responses.push(gateway.fetch('/api/v1/x/3'));
    await eventually(() => upstream.open.length === 2, 'a new request has the second permit');
    while (upstream.targets.length < 3 || upstream.open.length > 0) {
      upstream.respondOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const response of responses) expect((await response).status).toBe(200);
  });
});

describe('maxInFlight', () => {
  test('is never exceeded under 200 concurrent requests, as the upstream counts them, and all get a response', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 7));
    let ended = 0;
    const all = Array.from({ length: 200 }, async (_, i) => {
      const method = i % 3 === 0 ? 'POST' : 'GET';
      const response = await gateway.fetch(`/api/v1/x/${i}`, { method });
      expect(await response.text()).toBe('{}');
      ended += 1;
    });
    while (ended < 200) {
      if (upstream.open.length >= 7 || upstream.targets.length === 200) upstream.respondOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(all);
    expect([upstream.maxInFlight(), upstream.targets.length, new Set(upstream.targets).size]).toEqual([7, 200, 200]);
    expect([await inFlight(gateway), await waiting(gateway), await slots(gateway)]).toEqual([0, 0, 201]);
  });

  test('keeps waiting requests without a slot, and sends them in order', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const responses: Promise<Response>[] = [];
    for (let i = 0; i < 4; i += 1) {
      responses.push(gateway.fetch(`/api/v1/x/${i}`));
      await eventually(
        async () => (await inFlight(gateway)) + (await waiting(gateway)) === i + 1,
        `request ${i} is in flight or waits`,
      );
    }
    // The gateway's first request, and the one in flight.
    expect(await slots(gateway)).toBe(2);
    for (let i = 0; i < 4; i += 1) {
      await eventually(() => upstream.open.length === 1, `request ${i} arrived`);
      upstream.respondOne();
      await (await responses[i])?.arrayBuffer();
    }
    expect(upstream.targets).toEqual([0, 1, 2, 3].map((i) => `/api/v1/x/${i}`));
  });

  test('passes the permit of a client that disconnects to the next request, whether it waited or was in flight', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const clients = [new AbortController(), new AbortController()] as const;
    const disconnected = clients.map(async ({ signal }, i) => {
      await gateway.fetch(`/api/v1/disconnects/${i}`, { signal }).catch(() => null);
    });
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits');
    const stays = gateway.fetch('/api/v1/stays');
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait');
    for (const client of clients) client.abort();
    await Promise.all(disconnected);
    await eventually(() => upstream.targets.at(-1) === '/api/v1/stays', 'the last request is sent');
    expect(upstream.targets).toHaveLength(2);
    await eventually(() => upstream.open.length === 1, 'the upstream has closed the other requests');
    upstream.respondOne();
    expect((await stays).status).toBe(200);
    await eventually(async () => (await inFlight(gateway)) === 0, 'no permit is held');
  });

  test('is waited for within maxWait only: then the request gets 429 and takes no slot', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const first = gateway.fetch('/api/v1/x');
    await eventually(() => upstream.open.length === 1, 'one is in flight');
    const late = await gateway.fetch('/api/v1/y', { headers: { Prefer: 'wait=0' } });
    expect([late.status, late.headers.get('retry-after') !== null, await codeOf(late)]).toEqual([
      429,
      true,
      'queue_timeout',
    ]);
    expect(await slots(gateway)).toBe(2);
    upstream.respondOne();
    await (await first).arrayBuffer();
  });

  test('counts a request until the last byte of its response', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const first = gateway.fetch('/api/v1/x');
    await eventually(() => upstream.open.length === 1, 'one is in flight');
    upstream.open[0]?.write('{');
    const response = await first;
    const second = gateway.fetch('/api/v1/y');
    await eventually(async () => (await waiting(gateway)) === 1, 'the second waits');
    expect(await inFlight(gateway)).toBe(1);
    upstream.respondOne();
    await response.text();
    await eventually(() => upstream.targets.length === 2, 'the second is sent');
    await eventually(() => upstream.open.length === 1, 'the first has ended');
    upstream.respondOne();
    await (await second).arrayBuffer();
    expect(upstream.maxInFlight()).toBe(1);
  });

  test('holds no permit for a tenant that waits for a slot', async () => {
    await using upstream = await manualUpstream();
    const reader = { ...TENANTS.reader, quota: { rate: 1, burst: 1, maxWait: '20s' } };
    const config = limited(upstream.url, 2);
    await using gateway = await started(upstream, { ...config, tenants: { ...(config['tenants'] as Config), reader } });
    const poor = { Authorization: `Bearer ${READER_KEY}`, Prefer: 'wait=30' };
    const client = new AbortController();
    const requests = [1, 2, 3].map((i) =>
      gateway.fetch(`/api/v1/poor/${i}`, { headers: poor, signal: client.signal }).catch(() => null),
    );
    await eventually(() => upstream.open.length === 1, 'its only token is spent');
    const rich = gateway.fetch('/api/v1/rich', { headers: { Authorization: `Bearer ${BILLING_KEY}` } });
    await eventually(() => upstream.targets.includes('/api/v1/rich'), 'the request of the other tenant is sent');
    client.abort();
    await Promise.all(requests);
    while (upstream.open.length > 0) {
      upstream.respondOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await rich).status).toBe(200);
  });

  test('gives a permit to the next request when the first in the queue has lost its slot, and that one waits for a slot', async () => {
    await using upstream = await manualUpstream();
    const poor = { ...TENANTS.reader, allow: ['* /api/v1/**'], quota: { rate: 3, burst: 2, maxWait: '20s' } };
    const config = limited(upstream.url, 1);
    const tenants = { ...(config['tenants'] as Config), reader: poor };
    // The second token is spent through the other upstream.
    const routes = [
      { match: 'GET /api/v1/other/**', upstream: 'start' },
      { match: '* /api/v1/**', upstream: 'core' },
    ];
    await using gateway = await started(upstream, { ...config, tenants, routes });
    const client = new AbortController();
    const headers = { Authorization: `Bearer ${READER_KEY}`, Prefer: 'wait=30' };
    const asPoor = (path: string) =>
      gateway.fetch(path, { headers, signal: client.signal }).then(
        (response) => response.text(),
        () => null,
      );
    const first = asPoor('/api/v1/poor/1');
    await eventually(() => upstream.open.length === 1, 'one is in flight');
    const second = asPoor('/api/v1/poor/2');
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits for a permit');
    const other = asPoor('/api/v1/other');
    await eventually(() => upstream.open.length === 2, 'the second token is spent');
    // This request waits for a permit that the one before it gets first.
    const rich = gateway.fetch('/api/v1/rich');
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait for permits');
    upstream.respondOne();
    expect(await first).toBe('{}');
    await eventually(() => upstream.targets.includes('/api/v1/rich'), 'the request of the other tenant is sent');
    expect(await gateway.metric('patchgate_quota_waiting')).toBe(1);
    while (upstream.open.length > 0) {
      upstream.respondOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([(await rich).status, await other]).toEqual([200, '{}']);
    client.abort();
    expect(await second).toBe(null);
    expect(upstream.targets).not.toContain('/api/v1/poor/2');
  });

  test('sends waiting requests at once when a reload raises it', async () => {
    await using upstream = await manualUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const responses = [1, 2, 3].map((i) => gateway.fetch(`/api/v1/x/${i}`));
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait');
    await gateway.reload(() => limited(upstream.url, 3));
    await eventually(() => upstream.open.length === 3, 'all three are in flight');
    for (const each of [...upstream.open]) each.end('{}');
    await Promise.all(responses.map(async (each) => (await each).arrayBuffer()));
  });

  test('rejects waiting requests when the drain runs out of time', async () => {
    await using upstream = await manualUpstream();
    const drain = { delay: '0s', timeout: '1s' };
    await using gateway = await started(upstream, limited(upstream.url, 1, { drain }));
    const first = gateway.fetch('/api/v1/x').catch(() => null);
    await eventually(() => upstream.open.length === 1, 'one is in flight');
    const second = gateway.fetch('/api/v1/y');
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits');
    const drained = gateway.drain();
    expect(await codeOf(await second)).toBe('draining');
    await Promise.all([drained, first]);
    expect(upstream.targets).toEqual(['/api/v1/x']);
  });
});
