import { describe, expect, test } from 'vitest';
import { FAKE_SPARE_KEY } from '../../src/simulator/options.ts';
import {
  arrived,
  codeOf,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  READER_KEY,
  run,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { redisServer } from '../support/redis.ts';

const NEW_KEY = 'pgk_billing_fake-new-key';

describe('a reload', () => {
  test('takes in new keys, routes, credentials and tenants, and drops old ones', async () => {
    await using gateway = await run();
    await gateway.reload((upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [{ id: 'spare', apiKey: FAKE_SPARE_KEY }] } },
        tenants: {
          billing: { keys: [{ id: 'new', sha256: sha256(NEW_KEY) }], quota: { burst: 200, maxWait: '0s' } },
        },
      }),
    );
    expect(await codeOf(await gateway.fetch('/api/v1/flow-runs'))).toBe('key_unknown');
    expect(await codeOf(await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } }))).toBe(
      'key_unknown',
    );
    expect((await gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: NEW_KEY } })).status).toBe(200);
    expect(arrived(gateway.simulator.arrivals().at(-1)?.headers ?? [], 'authorization')).toBe(FAKE_SPARE_KEY);
    expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'ok' })).toBe(2);
  });

  test('that is bad is refused, told and counted; the old configuration stays', async () => {
    await using gateway = await run();
    await gateway.reload((upstream) => configuration(upstream, { limits: { bdy: '1MiB' } }));
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(await gateway.metric('patchgate_config_reloads_total', { outcome: 'refused' })).toBe(1);
    expect(gateway.logText()).toContain('did you mean');
  });

  test('names what takes effect only after a restart', async () => {
    await using gateway = await run();
    await gateway.reload((upstream) => configuration(upstream, { cache: { memory: '1MiB' }, limits: { flood: 5 } }));
    const named = gateway.logs().filter(({ msg }) => msg === 'changed, but takes effect only after a restart');
    expect(named.map(({ option }) => option)).toEqual(['limits', 'cache.memory']);
  });

  test.each(['embedded state', 'Redis'])('neither refills nor empties what is spent: %s', async (kind) => {
    await using redis = await redisServer();
    const shared = kind === 'Redis' ? { redis: { url: redis.url } } : {};
    const quota = (burst: number) => (upstream: string) =>
      configuration(upstream, {
        ...shared,
        tenants: { ...TENANTS, reader: { ...TENANTS.reader, quota: { rate: 1, burst, maxWait: '0s' } } },
      });
    await using gateway = await run({ config: quota(10) });
    const ask = () => gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    const left = async () => Number((await ask()).headers.get('x-ratelimit-remaining'));
    for (let i = 0; i < 5; i++) expect((await ask()).status).toBe(200);
    await gateway.reload(quota(10));
    expect(await left()).toBe(4);
    await gateway.reload(quota(20));
    expect(await left()).toBe(13);
    await gateway.reload(quota(3));
    expect((await ask()).status).toBe(429);
    const status = await (await fetch(`${gateway.adminUrl}/status`)).json();
    expect(status).toMatchObject({ accounts: { main: { ceiling: 235 } } });
  });

  test('keeps the login token of credentials that did not change', async () => {
    const config = (upstream: string) =>
      configuration(upstream, {
        accounts: { main: { quota: { burst: 200 }, credentials: [loginAt(upstream), PRIMARY] } },
      });
    await using gateway = await run({ config });
    const logins = () => gateway.metric('patchgate_credential_refreshes_total', { outcome: 'ok' });
    expect(await logins()).toBe(1);
    await gateway.reload(config);
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(await logins()).toBe(1);
  });

  test('loses no request, and gives those of a removed tenant an answer', async () => {
    await using gateway = await run({
      simulator: { switches: { answerLatency: { kind: 'uniform', minMs: 5, maxMs: 60 } } },
    });
    const statuses: Promise<number>[] = [];
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 10; i++) statuses.push(gateway.fetch('/api/v1/flow-runs').then(({ status }) => status));
      await gateway.reload((upstream) =>
        configuration(upstream, { log: { level: round % 2 === 0 ? 'warn' : 'info' } }),
      );
    }
    expect(new Set(await Promise.all(statuses))).toEqual(new Set([200]));
    const gone = gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } });
    const before = gateway.simulator.stats().arrived;
    await eventually(() => gateway.simulator.stats().arrived > before, 'it is under way');
    await gateway.reload((upstream) => configuration(upstream, { tenants: { billing: TENANTS.billing } }));
    expect((await gone).status).toBe(200);
  });
});
