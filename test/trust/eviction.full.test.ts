import { expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { BILLING_KEY, configuration, run, TENANTS } from '../support/gateway.ts';
import { redisServer } from '../support/redis.ts';

const POLICIES = [
  'noeviction',
  ...['allkeys', 'volatile'].flatMap((of) => ['lru', 'lfu', 'random'].map((by) => `${of}-${by}`)),
  'volatile-ttl',
];
const CEILING = 40;
const RUN_MS = 12_000;

/** Two replicas want all they can get, while another program fills the same Redis, so that it has to remove keys. */
async function pressed(policy: string): Promise<{ policy: string; most: number; evicted: number; errors: unknown[] }> {
  await using redis = await redisServer({ args: ['--maxmemory', '6mb', '--maxmemory-policy', policy] });
  const config = (upstream: string) =>
    configuration(upstream, {
      redis: { url: redis.url },
      accounts: {
        main: {
          quota: { limit: CEILING + 5, ceiling: CEILING, burst: CEILING },
          credentials: [{ id: 'p', apiKey: FAKE_PRIMARY_KEY }],
        },
      },
      cache: { rules: [{ match: 'GET /**', store: false }] },
      tenants: { billing: { ...TENANTS.billing, quota: { burst: 200, maxWait: '1s' } } },
    });
  await using one = await run({ config, cold: true, simulator: { switches: { limit: 1_000_000 } } });
  await using two = await run({ config, cold: true, upstream: one.simulator });
  const filler = redis.client();
  const end = performance.now() + RUN_MS;
  const fill = async (): Promise<void> => {
    for (let i = 0; performance.now() < end; i++) {
      await filler.set(`other:${i % 500}`, 'x'.repeat(50_000), 'EX', 1_000).catch(() => {});
    }
  };
  const call = async (url: string): Promise<void> => {
    while (performance.now() < end) {
      await (await fetch(`${url}/api/v1/flow-runs`, { headers: { 'X-API-Key': BILLING_KEY } })).arrayBuffer();
    }
  };
  await Promise.all([fill(), call(one.url), call(one.url), call(two.url), call(two.url)]);
  const evicted = Number(/evicted_keys:(\d+)/.exec(await filler.info('stats'))?.[1]);
  const most = one.simulator.stats().accounts['main']?.greatestCountedIn60s ?? 0;
  const errors = [...one.logs(), ...two.logs()].filter(({ level }) => level === 'error');
  return { policy, most, evicted, errors };
}

test('the ceiling holds whatever keys Redis removes, by any policy', { timeout: 120_000 }, async () => {
  const results = await Promise.all(POLICIES.map(pressed));
  for (const { policy, most, evicted, errors } of results) {
    expect([policy, most <= CEILING, errors]).toEqual([policy, true, []]);
    if (policy !== 'noeviction') expect([policy, evicted > 0]).toEqual([policy, true]);
  }
});
