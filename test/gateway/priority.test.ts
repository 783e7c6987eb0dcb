import { expect, test } from 'vitest';
import { codeOf, configuration, READER_KEY, run, TENANTS } from '../support/gateway.ts';

/** The reader has one token, and gains another in each half of a second. */
const config = (upstream: string) =>
  configuration(upstream, {
    tenants: { ...TENANTS, reader: { ...TENANTS.reader, quota: { rate: 120, burst: 1, maxWait: '20s' } } },
  });

test('requests of a tenant that wait are sent by their Priority, which goes upstream as it is; garbage is the default', async () => {
  await using gateway = await run({ config });
  const ask = async (priority: string | null) => {
    const headers = { Authorization: READER_KEY, ...(priority !== null && { Priority: priority }) };
    const response = await gateway.fetch('/api/v1/flow-runs', { headers });
    await response.arrayBuffer();
    return response.status;
  };
  const waiting = async (count: number) => {
    while ((await gateway.metric('patchgate_quota_waiting')) < count);
  };
  const statuses = [ask('u=3')];
  await Promise.all(statuses);
  // In sequence, so that their order is known.
  for (const [index, priority] of ['u=7', null, 'u=0, i', 'u="0"', 'u=1'].entries()) {
    statuses.push(ask(priority));
    await waiting(index + 1);
  }
  expect(await Promise.all(statuses)).toEqual(Array(6).fill(200));
  const arrived = gateway.simulator.arrivals().map(({ headers }) => {
    const at = headers.findIndex((each) => each.toLowerCase() === 'priority');
    return at < 0 ? null : headers[at + 1];
  });
  expect(arrived).toEqual(['u=3', 'u=0, i', 'u=1', null, 'u="0"', 'u=7']);
});

test('a request that does not wait is rejected with a time that fits its urgency', async () => {
  await using gateway = await run({ config });
  const ask = (priority: string, wait: number) =>
    gateway.fetch('/api/v1/flow-runs', {
      headers: { Authorization: READER_KEY, Priority: priority, Prefer: `wait=${wait}` },
    });
  await (await ask('u=3', 0)).arrayBuffer();
  const patient = Array.from({ length: 8 }, () => ask('u=3', 20));
  while ((await gateway.metric('patchgate_quota_waiting')) < 8);
  const [urgent, idle] = [await ask('u=0', 0), await ask('u=7', 0)];
  const seconds = (response: Response) => Number(response.headers.get('retry-after'));
  expect([await codeOf(urgent), await codeOf(idle)]).toEqual(['tenant_quota', 'tenant_quota']);
  expect(seconds(urgent)).toBeLessThanOrEqual(1);
  expect(seconds(idle)).toBeGreaterThanOrEqual(4);
  expect((await Promise.all(patient)).map(({ status }) => status)).toEqual(Array(8).fill(200));
});
