import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { matches, parsePattern, splitPath } from '../../src/routing/pattern.ts';
import type { Simulator } from '../../src/simulator/control.ts';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { API, createSimulator } from '../../src/simulator/simulator.ts';
import type { Switches } from '../../src/simulator/switches.ts';
import { BILLING_KEY, PRIMARY, type Running, run, sha256 } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { OPERATIONS, type Operation } from './table.ts';

// The gateway has its default routes and cache rules. It stands in front of one simulator for core and one for start. Their twins get
// the same requests without it, and give the same answers: their links begin with the gateway's base.
const clock = new ManualClock();
const open: { close(): Promise<void> }[] = [];
let gateway: Running;
let upstreams: Record<Operation['upstream'], Simulator>;
let twins: Record<Operation['upstream'], Simulator>;

beforeAll(async () => {
  const simulate = async () => {
    const simulator = await createSimulator({ clock, switches: { limit: 1_000_000 } });
    open.push(simulator);
    return simulator;
  };
  upstreams = { core: await simulate(), start: await simulate() };
  twins = { core: await simulate(), start: await simulate() };
  const most = 90_000;
  gateway = await run({
    clock,
    upstream: upstreams.core,
    config: () => ({
      listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
      accounts: { main: { quota: { limit: 100_000, ceiling: most, burst: most }, credentials: [PRIMARY] } },
      upstreams: { core: { origin: upstreams.core.url }, start: { origin: upstreams.start.url } },
      tenants: { billing: { keys: [{ id: 'now', sha256: sha256(BILLING_KEY) }], quota: { rate: most, burst: most } } },
    }),
  });
  for (const twin of Object.values(twins)) twin.set({ publicBase: gateway.url });
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  for (const each of open) await each.close();
});

/** A request whose expectations a test has itself. */
const READ: Omit<Operation, 'request'> = {
  status: 200,
  shape: 'data',
  upstream: 'core',
  stored: 'never',
  invalidates: [],
};
const CONTENT = { Accept: 'application/json', 'Content-Type': 'application/json' };

async function send(base: string, key: string, { request, query, body }: Operation) {
  const [method = '', path = ''] = request.split(' ');
  const target = `/api/v1${path}${query === undefined ? '' : `?${query}`}`;
  const response = await fetch(base + target, {
    method,
    headers: { ...CONTENT, Authorization: key },
    signal: AbortSignal.timeout(20_000),
    ...(body !== undefined && { body }),
  });
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    cache: response.headers.get('cache-status'),
    body: Buffer.from(await response.arrayBuffer()).toString('latin1'),
    target,
  };
}

const ask = (operation: Operation) => send(gateway.url, `Bearer ${BILLING_KEY}`, operation);
const titleOf = ({ request, query, body }: Operation) =>
  `${request}${query === undefined ? '' : `?${query}`}${body === undefined ? '' : ` ${body}`}`;
const named = (operations: readonly Operation[]) =>
  operations.map((operation): [string, Operation] => [titleOf(operation), operation]);

/** Cache-Status of the first and of the second response. */
const STATUSES = {
  never: ['patchgate; fwd=bypass', 'patchgate; fwd=bypass'],
  unless: ['patchgate; fwd=bypass; detail=unless', 'patchgate; fwd=bypass; detail=unless'],
  write: ['patchgate; fwd=method'],
  stored: (seconds: number) => ['patchgate; fwd=miss; stored', `patchgate; hit; ttl=${seconds}`],
};

function expectShape({ shape }: Operation, body: string): void {
  if (shape === 'bytes') return;
  const { data, links, meta, message } = JSON.parse(body) as Record<string, unknown>;
  const found = {
    list: Array.isArray(data) && !!links && !!meta,
    data: !!data && !links,
    message: !!message,
    bytes: true,
  };
  expect(found[shape], body.slice(0, 200)).toBe(true);
}

describe('an operation passes as it is, to its upstream, and is stored or not', () => {
  test.each(named(OPERATIONS))('%s', async (_title, operation) => {
    const { upstream, stored, status, body } = operation;
    const own = upstreams[upstream];
    for (const each of Object.values(upstreams)) each.reset();
    const direct = await send(twins[upstream].url, FAKE_PRIMARY_KEY, operation);
    const first = await ask(operation);
    expect([first.status, first.type, first.body]).toEqual([direct.status, direct.type, direct.body]);
    expect(first.status).toBe(status);
    if (status < 400) expectShape(operation, first.body);
    const all = () => [upstreams.core, upstreams.start].map((each) => each.arrivals().length);
    expect(all()).toEqual(upstream === 'core' ? [1, 0] : [0, 1]);
    expect(own.arrivals()[0]).toMatchObject({
      method: operation.request.split(' ')[0],
      target: first.target,
      bodySha256: body === undefined || body === '' ? null : createHash('sha256').update(body).digest('hex'),
      account: 'main',
    });
    const expected = typeof stored === 'number' ? STATUSES.stored(stored) : STATUSES[stored ?? 'write'];
    expect(first.cache).toBe(expected[0]);
    if (stored === null) return;
    const second = await ask(operation);
    expect([second.cache, second.body]).toEqual([expected[1], direct.body]);
    expect(own.arrivals()).toHaveLength(typeof stored === 'number' ? 1 : 2);
    if (typeof stored !== 'number') return;
    clock.advance(stored * 1_000);
    expect((await ask(operation)).cache).toBe('patchgate; fwd=stale; stored');
  });
});

describe('the forms that the documentation leaves open pass as they are', () => {
  const list: Operation = { request: 'GET /flow-runs', query: 'per_page=110', ...READ };
  const create = { request: 'POST /data-pool', ...READ, body: '{"name":"orders"}' };
  const wrong = { request: 'POST /flow-versions/1/variables', ...READ, body: '{"key":"a"}' };
  test.each<[string, Partial<Switches>, Operation, number]>([
    ['a create with 200', { createStatus: 200 }, create, 200],
    ['a create with 201', {}, create, 201],
    ['errors as texts', {}, wrong, 422],
    ['errors by rule', { validationErrors: 'rules' }, wrong, 422],
    ['a large page that is clamped', {}, list, 200],
    ['a large page that is accepted', { largePages: 'accept' }, list, 200],
    ['a large page that is refused', { largePages: 'refuse' }, list, 422],
    ['items with attributes', { shape: 'attributes' }, list, 200],
  ])('%s', async (_name, switches, operation, status) => {
    const before = { ...twins.core.switches };
    const both = [twins.core, upstreams.core];
    for (const each of both) each.set(switches);
    const direct = await send(twins.core.url, FAKE_PRIMARY_KEY, operation);
    const { body, ...response } = await ask(operation);
    for (const each of both) each.set({ ...before, publicBase: each.switches.publicBase });
    expect([response.status, body]).toEqual([status, direct.body]);
  });
});

test('a run is seen as it goes, and its payload until it is gone', async () => {
  const time = new ManualClock();
  await using one = await run({ clock: time, simulator: { clock: time, switches: { runMs: 3_000 } } });
  const started = await one.fetch('/api/v1/flows/1/start', { method: 'POST', body: '{"payload":"x"}' });
  const { data } = (await started.json()) as { data: { id: number } };
  const payload = one.simulator.data.all('payload-metadata').at(-1)?.id;
  const seen = async () => {
    const read = async (path: string) =>
      (await one.fetch(`/api/v1${path}`)).json() as Promise<{ data?: { status: number } }>;
    const [shown, stored] = [await read(`/flow-runs/${data.id}`), await read(`/payload-metadata/${payload}`)];
    return [shown.data?.status, stored.data !== undefined];
  };
  expect(await seen()).toEqual([0, true]);
  time.advance(5_000);
  expect(await seen()).toEqual([1, true]);
  time.advance(3_000);
  expect(await seen()).toEqual([2, true]);
  time.advance(72 * 3_600_000);
  expect(await seen()).toEqual([2, false]);
});

const READS = OPERATIONS.filter(({ stored, query }) => typeof stored === 'number' && query === undefined);
const WRITES = OPERATIONS.filter(({ stored }) => stored === null);
const pathOf = ({ request }: Operation) => request.split(' ')[1] ?? '';
/** Without the variants that differ in query and body. */
const DISTINCT = [...new Map(WRITES.map((each) => [`${each.request} ${each.status}`, each])).values()];

describe('a write invalidates what it changes, and nothing else', () => {
  /** The reads that went upstream. After that all are stored. */
  const fetched = async (): Promise<string[]> => {
    const paths: string[] = [];
    for (const each of READS) if (!/; hit;/.test((await ask(each)).cache ?? '')) paths.push(pathOf(each));
    return paths.sort();
  };
  beforeAll(fetched);
  test.each(named(DISTINCT.filter(({ invalidates }) => invalidates.length > 0)))('%s', async (_title, write) => {
    await ask(write);
    expect(await fetched()).toEqual([...write.invalidates].sort());
  });
  test('all others', async () => {
    for (const write of DISTINCT.filter(({ invalidates }) => invalidates.length === 0)) await ask(write);
    expect(await fetched()).toEqual([]);
  });
});

/** Routes of the simulator that the facts do not name: items of lists, and what is denied to tenants. */
const OTHERS =
  /^(GET .*\/\*|GET \/api\/v1\/(flow-versions|script-versions|users|api-keys)|GET \/api\/v2\/my\/user|PUT .*\/manage)$/;

test('the table has every route of the simulator', () => {
  const sent = OPERATIONS.map(({ request }) => {
    const [method = '', path = ''] = request.split(' ');
    return { method, segments: splitPath(`/api/v1${path}`) };
  });
  const unused = Object.keys(API).filter((match) => {
    const parsed = parsePattern(match);
    return !parsed.ok || !sent.some(({ method, segments }) => matches(parsed.pattern, method, segments));
  });
  expect(unused.filter((match) => !OTHERS.test(match))).toEqual([]);
});

test('the table has each request once', () => {
  expect(OPERATIONS.map(titleOf).toSorted()).toEqual([...new Set(OPERATIONS.map(titleOf))].sort());
});
