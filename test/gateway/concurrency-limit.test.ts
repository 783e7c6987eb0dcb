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

/** An upstream that answers when the test says so, and knows the most that were under way at once: from the request to the last byte. */
async function patientUpstream() {
  const open: ServerResponse[] = [];
  const targets: string[] = [];
  let [underWay, most] = [0, 0];
  const server = createServer((incoming, outgoing) => {
    targets.push(incoming.url ?? '');
    incoming.resume();
    underWay += 1;
    most = Math.max(most, underWay);
    outgoing.once('close', () => {
      underWay -= 1;
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
    most: () => most,
    answerOne: () => open[0]?.end('{}'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

type Patient = Awaited<ReturnType<typeof patientUpstream>>;

const limited = (url: string, maxInFlight: number, more: Config = {}): Config =>
  configuration(url, {
    upstreams: { core: { origin: url, timeout: '30s', maxInFlight }, start: { origin: url } },
    accounts: { main: { quota: { limit: 2_000, ceiling: 1_000, burst: 1_000 }, credentials: [PRIMARY] } },
    tenants: { ...TENANTS, billing: { ...TENANTS.billing, quota: { rate: 1_000, burst: 1_000, maxWait: '20s' } } },
    cache: { rules: [] },
    ...more,
  });

async function started(upstream: Patient, config: Config): Promise<Running> {
  const gateway = await run({ config: () => config, cold: true });
  await (await gateway.fetch('/api/v1/warm')).arrayBuffer();
  upstream.targets.length = 0;
  return gateway;
}
const waiting = (gateway: Running) => gateway.metric('patchgate_upstream_waiting', { upstream: 'core' });
const inFlight = (gateway: Running) => gateway.metric('patchgate_upstream_in_flight', { upstream: 'core' });
const slots = (gateway: Running) => gateway.metric('patchgate_quota_slots_in_use');

describe('maxInFlight', () => {
  test('is never exceeded, by upstream’s own record, under 200 callers at once, and all are answered', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 7));
    let answered = 0;
    const all = Array.from({ length: 200 }, async (_, i) => {
      const method = i % 3 === 0 ? 'POST' : 'GET';
      const response = await gateway.fetch(`/api/v1/x/${i}`, { method });
      expect(await response.text()).toBe('{}');
      answered += 1;
    });
    while (answered < 200) {
      if (upstream.open.length >= 7 || upstream.targets.length === 200) upstream.answerOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(all);
    expect([upstream.most(), upstream.targets.length, new Set(upstream.targets).size]).toEqual([7, 200, 200]);
    expect([await inFlight(gateway), await waiting(gateway), await slots(gateway)]).toEqual([0, 0, 201]);
  });

  test('leaves those who wait without a slot, and serves them in order', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const answers: Promise<Response>[] = [];
    for (let i = 0; i < 4; i += 1) {
      answers.push(gateway.fetch(`/api/v1/x/${i}`));
      await eventually(async () => (await inFlight(gateway)) + (await waiting(gateway)) === i + 1, `caller ${i}`);
    }
    // The one of the warm-up, and the one under way.
    expect(await slots(gateway)).toBe(2);
    for (let i = 0; i < 4; i += 1) {
      await eventually(() => upstream.open.length === 1, `request ${i}`);
      upstream.answerOne();
      await (await answers[i])?.arrayBuffer();
    }
    expect(upstream.targets).toEqual([0, 1, 2, 3].map((i) => `/api/v1/x/${i}`));
  });

  test('has the place of a caller that leaves given to the next, whether it waits or is under way', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const leaving = [new AbortController(), new AbortController()] as const;
    const gone = leaving.map(async ({ signal }, i) => {
      await gateway.fetch(`/api/v1/leaves/${i}`, { signal }).catch(() => null);
    });
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits');
    const stays = gateway.fetch('/api/v1/stays');
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait');
    for (const each of leaving) each.abort();
    await Promise.all(gone);
    await eventually(() => upstream.targets.at(-1) === '/api/v1/stays', 'the last one is served');
    expect(upstream.targets).toHaveLength(2);
    await eventually(() => upstream.open.length === 1, 'upstream has seen the others leave');
    upstream.answerOne();
    expect((await stays).status).toBe(200);
    await eventually(async () => (await inFlight(gateway)) === 0, 'no place is held');
  });

  test('is waited for within maxWait only: then 429, without a slot', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const first = gateway.fetch('/api/v1/x');
    await eventually(() => upstream.open.length === 1, 'one is under way');
    const late = await gateway.fetch('/api/v1/y', { headers: { Prefer: 'wait=0' } });
    expect([late.status, late.headers.get('retry-after') !== null, await codeOf(late)]).toEqual([
      429,
      true,
      'queue_timeout',
    ]);
    expect(await slots(gateway)).toBe(2);
    upstream.answerOne();
    await (await first).arrayBuffer();
  });

  test('counts an answer until its last byte', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const first = gateway.fetch('/api/v1/x');
    await eventually(() => upstream.open.length === 1, 'one is under way');
    upstream.open[0]?.write('{');
    const response = await first;
    const second = gateway.fetch('/api/v1/y');
    await eventually(async () => (await waiting(gateway)) === 1, 'the second waits');
    expect(await inFlight(gateway)).toBe(1);
    upstream.answerOne();
    await response.text();
    await eventually(() => upstream.targets.length === 2, 'the second is sent');
    await eventually(() => upstream.open.length === 1, 'the first has ended');
    upstream.answerOne();
    await (await second).arrayBuffer();
    expect(upstream.most()).toBe(1);
  });

  test('is not held by a tenant that waits for a slot of its own', async () => {
    await using upstream = await patientUpstream();
    const reader = { ...TENANTS.reader, quota: { rate: 1, burst: 1, maxWait: '20s' } };
    const config = limited(upstream.url, 2);
    await using gateway = await started(upstream, { ...config, tenants: { ...(config['tenants'] as Config), reader } });
    const poor = { Authorization: `Bearer ${READER_KEY}`, Prefer: 'wait=30' };
    const leaving = new AbortController();
    const asked = [1, 2, 3].map((i) =>
      gateway.fetch(`/api/v1/poor/${i}`, { headers: poor, signal: leaving.signal }).catch(() => null),
    );
    await eventually(() => upstream.open.length === 1, 'the token it has is spent');
    const rich = gateway.fetch('/api/v1/rich', { headers: { Authorization: `Bearer ${BILLING_KEY}` } });
    await eventually(() => upstream.targets.includes('/api/v1/rich'), 'the other tenant is served');
    leaving.abort();
    await Promise.all(asked);
    while (upstream.open.length > 0) {
      upstream.answerOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await rich).status).toBe(200);
  });

  test('is given up by one whose turn comes when its slot is gone: the next one is served, and it waits on for a slot', async () => {
    await using upstream = await patientUpstream();
    const poor = { ...TENANTS.reader, allow: ['* /api/v1/**'], quota: { rate: 3, burst: 2, maxWait: '20s' } };
    const config = limited(upstream.url, 1);
    const tenants = { ...(config['tenants'] as Config), reader: poor };
    // Through the other upstream its second token can be spent meanwhile.
    const routes = [
      { match: 'GET /api/v1/other/**', upstream: 'start' },
      { match: '* /api/v1/**', upstream: 'core' },
    ];
    await using gateway = await started(upstream, { ...config, tenants, routes });
    const leaving = new AbortController();
    const headers = { Authorization: `Bearer ${READER_KEY}`, Prefer: 'wait=30' };
    const asPoor = (path: string) =>
      gateway.fetch(path, { headers, signal: leaving.signal }).then(
        (response) => response.text(),
        () => null,
      );
    const first = asPoor('/api/v1/poor/1');
    await eventually(() => upstream.open.length === 1, 'one is under way');
    const second = asPoor('/api/v1/poor/2');
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits for a place');
    const other = asPoor('/api/v1/other');
    await eventually(() => upstream.open.length === 2, 'the second token is spent');
    // It waits for a place that the one before gets first.
    const rich = gateway.fetch('/api/v1/rich');
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait for a place');
    upstream.answerOne();
    expect(await first).toBe('{}');
    await eventually(() => upstream.targets.includes('/api/v1/rich'), 'the other tenant is served');
    expect(await gateway.metric('patchgate_quota_waiting')).toBe(1);
    while (upstream.open.length > 0) {
      upstream.answerOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([(await rich).status, await other]).toEqual([200, '{}']);
    leaving.abort();
    expect(await second).toBe(null);
    expect(upstream.targets).not.toContain('/api/v1/poor/2');
  });

  test('that a reload raises lets those in who wait', async () => {
    await using upstream = await patientUpstream();
    await using gateway = await started(upstream, limited(upstream.url, 1));
    const answers = [1, 2, 3].map((i) => gateway.fetch(`/api/v1/x/${i}`));
    await eventually(async () => (await waiting(gateway)) === 2, 'two wait');
    await gateway.reload(() => limited(upstream.url, 3));
    await eventually(() => upstream.open.length === 3, 'all three are under way');
    for (const each of [...upstream.open]) each.end('{}');
    await Promise.all(answers.map(async (each) => (await each).arrayBuffer()));
  });

  test('sends those who wait elsewhere when the drain runs out of time', async () => {
    await using upstream = await patientUpstream();
    const drain = { delay: '0s', timeout: '1s' };
    await using gateway = await started(upstream, limited(upstream.url, 1, { drain }));
    const first = gateway.fetch('/api/v1/x').catch(() => null);
    await eventually(() => upstream.open.length === 1, 'one is under way');
    const second = gateway.fetch('/api/v1/y');
    await eventually(async () => (await waiting(gateway)) === 1, 'one waits');
    const drained = gateway.drain();
    expect(await codeOf(await second)).toBe('draining');
    await Promise.all([drained, first]);
    expect(upstream.targets).toEqual(['/api/v1/x']);
  });
});
