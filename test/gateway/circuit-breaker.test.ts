import { describe, expect, test } from 'vitest';
import {
  type Config,
  codeOf,
  configuration,
  eventually,
  READER_KEY,
  type Running,
  run,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

const READ = '/api/v1/flow-runs';
/** Failures of one tenant with one resource alone do not open a breaker. */
const OTHER = '/api/v1/notifications';
const CACHED = '/api/v1/flows';
const REFRESHED = '/api/v1/flows/1';
const BREAKER = { failurePercent: 50, minRequests: 4, window: '30s', open: '10s', maxOpen: '40s' };
const broken = { match: '* /api/v1/**', fault: { kind: 'status', status: 502 } } as const;

const withBreaker =
  (more: Config = {}) =>
  (upstream: string) =>
    configuration(upstream, {
      upstreams: {
        core: { origin: upstream, timeout: '2s', retries: { max: 0 }, breaker: { ...BREAKER, ...more } },
        start: { origin: upstream },
      },
      cache: {
        rules: [
          { match: `GET ${REFRESHED}`, ttl: '1s', staleWhileRevalidate: '1h' },
          { match: `GET ${CACHED}`, ttl: '1s', staleIfError: '1h' },
        ],
      },
    });

const start = (clock: ManualClock, more: Config = {}) => run({ clock, random: () => 0, config: withBreaker(more) });
const send = async (gateway: Running, path = READ, method = 'GET'): Promise<string> => {
  const response = await gateway.fetch(path, method === 'POST' ? POST : { method });
  if (response.status === 503) return codeOf(response);
  await response.arrayBuffer();
  return String(response.status);
};
const several = async (gateway: Running, times: number): Promise<string[]> => {
  const results: string[] = [];
  for (let i = 0; i < times; i += 1) results.push(await send(gateway, i % 2 === 0 ? READ : OTHER));
  return results;
};
const POST = { method: 'POST', body: '{"name":"pool"}', headers: { 'Content-Type': 'application/json' } };
const stateOf = (gateway: Running) => gateway.metric('patchgate_upstream_breaker_state', { upstream: 'core' });

describe('an upstream with an open circuit breaker', () => {
  test('receives no request: each is rejected at once with Retry-After, and takes no slot and no token', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    gateway.simulator.fault(broken);
    // The gateway's first request succeeded: three failures of four are above half.
    expect(await several(gateway, 6)).toEqual(['502', '502', '502', 'breaker_open', 'breaker_open', 'breaker_open']);
    const slots = await gateway.metric('patchgate_quota_slots_in_use');
    clock.advance(3_000);
    const rejected = await gateway.fetch(READ);
    expect([rejected.status, rejected.headers.get('retry-after')]).toEqual([503, '7']);
    expect(await send(gateway, '/api/v1/data-pool', 'POST')).toBe('breaker_open');
    const remaining = rejected.headers.get('x-ratelimit-remaining');
    expect((await gateway.fetch(READ)).headers.get('x-ratelimit-remaining')).toBe(remaining);
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(slots);
    expect(gateway.simulator.arrivals()).toHaveLength(3);
    expect(await stateOf(gateway)).toBe(2);
    expect(gateway.logText()).toContain('circuit breaker opened');
  });

  test('is probed after the open period: a failure doubles the period, and successes close the breaker', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    gateway.simulator.fault(broken);
    await several(gateway, 4);
    clock.advance(10_000);
    expect(await stateOf(gateway)).toBe(1);
    expect(await several(gateway, 2)).toEqual(['502', 'breaker_open']);
    clock.advance(19_999);
    expect(await send(gateway)).toBe('breaker_open');
    gateway.simulator.clearFaults();
    clock.advance(1);
    // A write becomes a probe only when no caller reads.
    expect(await send(gateway, '/api/v1/data-pool', 'POST')).toBe('breaker_open');
    expect(await several(gateway, 2)).toEqual(['200', '200']);
    expect(await stateOf(gateway)).toBe(0);
    expect(await send(gateway, '/api/v1/data-pool', 'POST')).toBe('201');
    expect(gateway.logText()).toContain('circuit breaker closed');
  });

  test('receives two probes at a time, however many requests arrive', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    gateway.simulator.fault(broken);
    await several(gateway, 4);
    gateway.simulator.clearFaults();
    gateway.simulator.fault({ match: '* /api/v1/**', fault: { kind: 'stall', when: 'before' } });
    gateway.simulator.reset();
    clock.advance(10_000);
    const results = Promise.all(Array.from({ length: 50 }, (_, i) => send(gateway, `${READ}/${i}`)));
    await eventually(() => gateway.simulator.arrivals().length === 2, 'two probes');
    const codes = await results;
    expect(gateway.simulator.arrivals()).toHaveLength(2);
    expect(codes.filter((each) => each === 'breaker_open')).toHaveLength(48);
  });

  test('has stale responses served, and is not probed by background requests', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    expect([await send(gateway, CACHED), await send(gateway, REFRESHED)]).toEqual(['200', '200']);
    gateway.simulator.fault(broken);
    await several(gateway, 5);
    expect(await stateOf(gateway)).toBe(2);
    gateway.simulator.clearFaults();
    gateway.simulator.reset();
    clock.advance(5_000);
    const stale = await gateway.fetch(CACHED);
    expect([stale.status, stale.headers.get('cache-status')]).toEqual([200, expect.stringContaining('stale')]);
    await stale.arrayBuffer();
    clock.advance(5_000);
    expect(await stateOf(gateway)).toBe(1);
    // The stale response is served at once, and the refresh in the background is not sent.
    expect(await send(gateway, REFRESHED)).toBe('200');
    expect(await several(gateway, 2)).toEqual(['200', '200']);
    expect(gateway.simulator.arrivals().map(({ target }) => target)).toEqual([READ, OTHER]);
  });

  test('makes no request wait for a slot first: a tenant without tokens gets the same rejection at once', async () => {
    const clock = new ManualClock();
    const reader = { ...TENANTS.reader, quota: { rate: 3, burst: 3, maxWait: '30s' } };
    const config = (upstream: string) => ({ ...withBreaker()(upstream), tenants: { ...TENANTS, reader } });
    await using gateway = await run({ clock, random: () => 0, config });
    gateway.simulator.fault(broken);
    const poor = { headers: { Authorization: READER_KEY } };
    for (const path of [READ, OTHER, READ]) expect((await gateway.fetch(path, poor)).status).toBe(502);
    expect(await codeOf(await gateway.fetch(READ, poor))).toBe('breaker_open');
    expect(await gateway.metric('patchgate_quota_decisions_total', { tenant: 'reader', decision: 'tenant' })).toBe(0);
  });

  test('does not affect another upstream', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    gateway.simulator.fault({ ...broken, match: '* /api/v1/flow-runs/**' });
    gateway.simulator.fault({ ...broken, match: '* /api/v1/notifications/**' });
    await several(gateway, 4);
    expect(await send(gateway)).toBe('breaker_open');
    expect(await send(gateway, '/api/v1/flows/1/start', 'POST')).toBe('200');
  });

  test.each([404, 429, 500, 501])('is healthy with responses %i', async (status) => {
    await using gateway = await start(new ManualClock());
    // A 429 starts a cooldown, in which nothing is sent.
    const times = status === 429 ? 1 : 20;
    gateway.simulator.fault({ match: '* /api/v1/**', fault: { kind: 'status', status } });
    expect(new Set(await several(gateway, times))).toEqual(new Set([String(status)]));
    expect(await stateOf(gateway)).toBe(0);
  });

  test('receives every request with breaker.enabled false, and is counted from the reload that enables it', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock, { enabled: false });
    gateway.simulator.fault(broken);
    expect(new Set(await several(gateway, 20))).toEqual(new Set(['502']));
    await gateway.reload(withBreaker());
    expect((await several(gateway, 6)).at(-1)).toBe('breaker_open');
  });

  test('is not taken for the host that replaces it in a reload', async () => {
    const clock = new ManualClock();
    await using gateway = await start(clock);
    gateway.simulator.fault(broken);
    await several(gateway, 5);
    await gateway.reload(withBreaker());
    expect(await send(gateway)).toBe('breaker_open');
    gateway.simulator.clearFaults();
    await gateway.reload((upstream) => withBreaker()(upstream.replace('127.0.0.1', 'localhost')));
    expect(await send(gateway)).toBe('200');
  });

  test.each([
    ['minRequests', { minRequests: 9 }, 8],
    ['failurePercent', { failurePercent: 90 }, 9],
  ])('opens later with a greater breaker.%s', async (_option, more, failures) => {
    await using gateway = await start(new ManualClock(), more);
    gateway.simulator.fault(broken);
    const results = await several(gateway, 12);
    expect(results.indexOf('breaker_open')).toBe(failures);
  });

  test.each([
    ['unreachable', null],
    ['reset', { kind: 'reset', when: 'before' }],
    ['garbage', { kind: 'garbage' }],
    ['stalled', { kind: 'stall', when: 'before' }],
  ] as const)('opens not only for responses: %s', async (_name, fault) => {
    const origin = fault === null ? 'http://127.0.0.1:1' : null;
    const config = (upstream: string) => {
      const { upstreams, ...rest } = withBreaker()(upstream) as { upstreams: { core: Config } };
      return { ...rest, upstreams: { core: { ...upstreams.core, origin: origin ?? upstream, timeout: '100ms' } } };
    };
    await using gateway = await run({
      config: (upstream) => ({ ...config(upstream), routes: [{ match: '* /api/v1/**', upstream: 'core' }] }),
      cold: true,
    });
    if (fault !== null) {
      await send(gateway);
      gateway.simulator.fault({ match: '* /api/v1/**', fault });
    }
    await several(gateway, 4);
    expect(await send(gateway)).toBe('breaker_open');
  });
});
