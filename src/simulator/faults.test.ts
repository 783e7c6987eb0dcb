import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rawRequest, sendRaw } from '../../test/support/raw-http.ts';
import type { Simulator } from './control.ts';
import type { Fault, FaultRule } from './faults.ts';
import { FAKE_PRIMARY_KEY } from './options.ts';
import { createSimulator } from './simulator.ts';

let simulator: Simulator;
beforeEach(async () => {
  simulator = await createSimulator();
});
afterEach(() => simulator.close());

const HEAD = [`Authorization: ${FAKE_PRIMARY_KEY}`, 'Accept: application/json'];
const ask = (line = 'GET /api/v1/flows/1', head: readonly string[] = HEAD, deadlineMs = 2_000) =>
  sendRaw(simulator.port, rawRequest(line, head), deadlineMs);
const every = (fault: Fault, more: Partial<FaultRule> = {}) =>
  simulator.fault({ match: '* /api/v1/**', fault, ...more });

describe('on the wire', () => {
  test('a reset before the response is a reset, and after the headers cuts the body', async () => {
    every({ kind: 'reset', when: 'before' }, { times: 1 });
    await expect(ask()).rejects.toMatchObject({ code: 'ECONNRESET' });
    every({ kind: 'reset', when: 'after' });
    const cut = await ask();
    expect(cut.status).toBe(200);
    expect(cut.body.length).toBeLessThan(Number(cut.headers['content-length']));
  });

  test('a stall says nothing, or half of it, and keeps the connection open', async () => {
    every({ kind: 'stall', when: 'before' }, { times: 1 });
    expect((await ask(undefined, HEAD, 150)).text).toBe('');
    every({ kind: 'stall', when: 'body' });
    const half = await ask(undefined, HEAD, 150);
    expect([half.status, half.body.length]).toEqual([200, 100]);
    expect(simulator.arrivals().map((each) => each.fault)).toEqual(['stall', 'stall']);
  });

  test('a truncated body is shorter than promised, or has no last chunk', async () => {
    every({ kind: 'truncate', framing: 'length' }, { times: 1 });
    const short = await ask();
    expect(short.body.length).toBeLessThan(Number(short.headers['content-length']));
    every({ kind: 'truncate', framing: 'chunked' });
    const chunked = await ask();
    expect(chunked.headers['transfer-encoding']).toBe('chunked');
    expect(chunked.body).not.toMatch(/0\r\n\r\n$/);
    expect(simulator.arrivals().map((each) => each.aborted)).toEqual([false, false]);
  });

  test('garbage is exactly the bytes given', async () => {
    every({ kind: 'garbage', bytes: 'HTTP/1.1 200\xff\r\nno colon\r\n\r\n' });
    expect((await ask()).text).toBe('HTTP/1.1 200\xff\r\nno colon\r\n\r\n');
  });

  test('a drip is the whole body, in pieces', async () => {
    every({ kind: 'drip', pieces: 4, pauseMs: 5 });
    const dripped = await ask();
    expect(dripped.body.length).toBe(Number(dripped.headers['content-length']));
  });

  test('a delay and extra headers leave the right answer as it is', async () => {
    const right = (await ask()).body;
    every({ kind: 'headers', headers: { 'Set-Cookie': ['a=1', 'b=2'], 'Cache-Control': null } }, { times: 1 });
    const more = await ask();
    expect([more.body, more.headers['cache-control']]).toEqual([right, undefined]);
    expect(more.text).toContain('Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n');
    every({ kind: 'delay', ms: 50 });
    const before = performance.now();
    expect((await ask()).body).toBe(right);
    expect(performance.now() - before).toBeGreaterThanOrEqual(49);
  });
});

describe('how far the request gets', () => {
  test('a 500 is counted and carries the limit headers, a 503 of the ingress neither', async () => {
    every({ kind: 'status', status: 500 }, { times: 1 });
    const inner = await ask();
    expect([inner.status, inner.headers['x-ratelimit-remaining'], inner.body]).toEqual([
      500,
      '239',
      '{"message":"Server Error"}',
    ]);
    every({ kind: 'status', status: 503, headers: { 'Retry-After': '7' } });
    const outer = await ask();
    expect([outer.status, outer.headers['x-ratelimit-remaining'], outer.headers['retry-after']]).toEqual([
      503,
      undefined,
      '7',
    ]);
    expect(simulator.stats()).toMatchObject({ arrived: 2, counted: 1 });
  });

  test.each([
    ['ingress', 0, 0],
    ['application', 1, 0],
    ['response', 1, 1],
  ] as const)('a reset at the %s: %i counted, %i started', async (where, counted, started) => {
    const runs = simulator.data.all('flow-runs').length;
    every({ kind: 'reset', when: 'before' }, { where });
    await expect(ask('POST /api/v1/flows/1/start')).rejects.toThrow();
    expect(simulator.stats().counted).toBe(counted);
    expect(simulator.data.all('flow-runs').length - runs).toBe(started);
  });

  test('a rejected request does not use up a fault of a later stage', async () => {
    every({ kind: 'status', status: 500 }, { times: 1 });
    expect((await ask(undefined, [])).status).toBe(401);
    expect([(await ask()).status, (await ask()).status]).toEqual([500, 200]);
  });

  test('a rule holds for its pattern only, as often as it says, until cleared', async () => {
    simulator.fault({ match: 'GET /api/v1/flow-runs/*', times: 2, fault: { kind: 'status', status: 503 } });
    const statuses: number[] = [];
    for (const path of ['flows/1', 'flow-runs/1', 'flow-runs/2', 'flow-runs/3']) {
      statuses.push((await ask(`GET /api/v1/${path}`)).status);
    }
    expect(statuses).toEqual([200, 503, 503, 200]);
    every({ kind: 'status', status: 503 });
    simulator.clearFaults();
    expect((await ask()).status).toBe(200);
  });
});

test.each([
  [{ match: 'flows', fault: { kind: 'garbage' } }, /match/],
  [{ match: 'GET /a', fault: { kind: 'explode' } }, /kind/],
  [{ match: 'GET /a' }, /kind/],
  [{ match: 'GET /a', fault: { kind: 'status', status: 99 } }, /status/],
  [{ match: 'GET /a', fault: { kind: 'status', status: 200, headers: { 'a b': 'c' } } }, /a b/],
  [{ match: 'GET /a', fault: { kind: 'delay', ms: 1 }, where: 'ingress' }, /response/],
  [{ match: 'GET /a', fault: { kind: 'garbage' }, times: 0 }, /times/],
])('a rule that cannot work is rejected when it is set: %j', (rule, message) => {
  expect(() => simulator.fault(rule as FaultRule)).toThrow(message);
});
