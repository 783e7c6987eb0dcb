import { describe, expect, test } from 'vitest';
import { type Config, codeOf, configuration, type Running, run, sha256 } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

const FAILING = '/api/v1/flow-runs';
const ALSO_FAILING = '/api/v1/scheduled-flows';
const WORKING = '/api/v1/notifications';
const key = (tenant: string) => `pgk_${tenant}_fake-key`;
const tenant = (id: string) => ({
  keys: [{ id: 'only', sha256: sha256(key(id)) }],
  quota: { rate: 100_000, burst: 5_000 },
});

/** Three tenants without a limit that matters, and the breaker as it is by default. */
const config = (upstream: string): Config =>
  configuration(upstream, {
    accounts: {
      main: {
        quota: { limit: 100_000, ceiling: 90_000, burst: 5_000 },
        credentials: [{ id: 'primary', apiKey: 'fake-key' }],
      },
    },
    upstreams: { core: { origin: upstream, timeout: '2s', retries: { max: 0 } }, start: { origin: upstream } },
    tenants: { greedy: tenant('greedy'), modest: tenant('modest'), third: tenant('third') },
    cache: { rules: [] },
  });
const simulator = { accounts: { main: { apiKeys: { primary: 'fake-key' }, limit: 100_000 } } };

const start = async () => {
  const clock = new ManualClock();
  const gateway = await run({ clock, random: () => 0, config, simulator, cold: true });
  // The first response shows the use of the account. A minute later the breaker has forgotten it.
  await send(gateway, 'third', WORKING);
  clock.advance(60_000);
  return { clock, gateway };
};
const fail = (gateway: Running, status: number, match = `* ${FAILING}/**`) =>
  gateway.simulator.fault({ match, fault: { kind: 'status', status } });
const send = async (gateway: Running, from: string, path: string): Promise<string> => {
  const response = await gateway.fetch(path, { headers: { Authorization: `Bearer ${key(from)}` } });
  if (response.headers.get('content-type') === 'application/problem+json') return codeOf(response);
  await response.arrayBuffer();
  return String(response.status);
};

/** The modest tenant's results. `since`: the second in which it begins. */
const besideGreedy = async (
  { clock, gateway }: Awaited<ReturnType<typeof start>>,
  {
    paths,
    since,
    seconds,
    everySeconds = 1,
  }: { paths: string[]; since: number; seconds: number; everySeconds?: number },
): Promise<string[]> => {
  const modest: string[] = [];
  for (let second = 0; second < seconds; second += 1) {
    for (let each = 0; each < 10; each += 1) {
      await send(gateway, 'greedy', paths[each % paths.length] as string);
      clock.advance(100);
    }
    if (second >= since && second % everySeconds === 0) modest.push(await send(gateway, 'modest', WORKING));
  }
  return modest;
};

describe('a tenant whose requests fail ten times a second', () => {
  test.each([
    [500, 0],
    [503, 0],
    [500, 3],
    [503, 3],
  ])('with %i does not keep another one from its responses, from second %i on', async (status, since) => {
    const scene = await start();
    await using gateway = scene.gateway;
    fail(gateway, status);
    const modest = await besideGreedy(scene, { paths: [FAILING], since, seconds: 20 });
    expect(modest).toEqual(Array(20 - since).fill('200'));
  });

  test('on two resources does not keep another one from its responses, one every ten seconds', async () => {
    const scene = await start();
    await using gateway = scene.gateway;
    fail(gateway, 503);
    fail(gateway, 503, `* ${ALSO_FAILING}/**`);
    const modest = await besideGreedy(scene, {
      paths: [FAILING, ALSO_FAILING],
      since: 0,
      seconds: 60,
      everySeconds: 10,
    });
    expect(modest).toEqual(Array(6).fill('200'));
  });

  test('alone with one resource is not sent on, until another tenant shows that the upstream works', async () => {
    await using gateway = (await start()).gateway;
    fail(gateway, 503);
    for (let i = 0; i < 10; i += 1) expect(await send(gateway, 'greedy', FAILING)).toBe('503');
    expect(await send(gateway, 'greedy', FAILING)).toBe('breaker_open');
    expect(gateway.logs().find(({ msg }) => msg === 'circuit breaker opened')).toMatchObject({ tenant: 'greedy' });
    const status = (await (await fetch(`${gateway.adminUrl}/status`)).json()) as { upstreams: { core: unknown } };
    expect(status.upstreams.core).toMatchObject({ breaker: 'open', breakerTenant: 'greedy' });
    expect(await send(gateway, 'modest', WORKING)).toBe('200');
    expect(await send(gateway, 'greedy', WORKING)).toBe('200');
  });
});

test('an upstream that fails for all is closed off for all, and a tenant without failures probes it first', async () => {
  const { clock, gateway } = await start();
  await using _ = gateway;
  fail(gateway, 503, '* /api/v1/**');
  for (let i = 0; i < 5; i += 1) {
    expect(await send(gateway, 'greedy', FAILING)).toBe('503');
    expect(await send(gateway, 'modest', WORKING)).toBe('503');
  }
  for (const tenant of ['greedy', 'modest', 'third']) {
    expect(await send(gateway, tenant, WORKING)).toBe('breaker_open');
  }
  gateway.simulator.clearFaults();
  clock.advance(5_000);
  expect([await send(gateway, 'greedy', WORKING), await send(gateway, 'modest', WORKING)]).toEqual([
    'breaker_open',
    'breaker_open',
  ]);
  expect([await send(gateway, 'third', WORKING), await send(gateway, 'third', WORKING)]).toEqual(['200', '200']);
  expect([await send(gateway, 'greedy', FAILING), await send(gateway, 'modest', WORKING)]).toEqual(['200', '200']);
});
