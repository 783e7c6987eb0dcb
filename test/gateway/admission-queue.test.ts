import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, PRIMARY, READER_KEY, run, TENANTS } from '../support/gateway.ts';
import { dial } from '../support/raw-socket.ts';

// Some 120 requests at most wait at 240 a minute, as no caller waits for longer than 30 s: only a larger account fills the places.
const QUOTA = { limit: 6_001, ceiling: 6_000, burst: 1 };
const CONNECTIONS = 20;
const EACH = 100;

test('a tenant that sends 2,000 requests at once leaves places in the admission queue, and another one waits as if alone', async () => {
  const quota = { rate: 1_000_000, burst: 100_000, maxWait: '30s' };
  await using gateway = await run({
    simulator: { switches: { limit: QUOTA.limit } },
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota: QUOTA, credentials: [PRIMARY] } },
        limits: { requestsPerSecond: 1_000_000 },
        cache: { rules: [{ match: 'GET /**', store: false }] },
        tenants: { billing: { ...TENANTS.billing, quota }, reader: { ...TENANTS.reader, quota } },
      }),
  });
  const request = ['GET /api/v1/flow-runs HTTP/1.1', 'Host: x', `X-API-Key: ${BILLING_KEY}`, '', ''].join('\r\n');
  const callers = await Promise.all(Array.from({ length: CONNECTIONS }, () => dial(gateway.port)));
  try {
    for (const caller of callers) caller.write(request.repeat(EACH));
    const rejected = () => gateway.metric('patchgate_rejections_total', { tenant: 'billing', code: 'account_quota' });
    await eventually(async () => (await rejected()) >= 800, 'the rest is rejected');
    expect(await gateway.metric('patchgate_quota_waiting')).toBeLessThanOrEqual(500);
    const others = Array.from({ length: 20 }, () =>
      gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: READER_KEY } }),
    );
    expect((await Promise.all(others)).map(({ status }) => status)).toEqual(others.map(() => 200));
  } finally {
    for (const caller of callers) caller[Symbol.dispose]();
  }
});
