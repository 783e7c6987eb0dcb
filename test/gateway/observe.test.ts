import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import {
  type Config,
  codeOf,
  configuration,
  DISABLED_KEY,
  READER_KEY,
  type Running,
  run,
  TENANTS,
} from '../support/gateway.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await redisServer();
});
afterAll(() => redis[Symbol.asyncDispose]());

const AS_READER = { headers: { Authorization: READER_KEY } };

/** The reader has 5 tokens, gains one in two seconds, does not wait, and may only read. */
const configOf =
  (enforcement: 'enforce' | 'observe', more: Config = {}) =>
  (upstream: string): Config =>
    configuration(upstream, { tenants: { ...TENANTS, reader: { ...TENANTS.reader, enforcement } }, ...more });

async function statusesOf(count: number, ask: (index: number) => Promise<Response>): Promise<number[]> {
  const statuses: number[] = [];
  for (let i = 0; i < count; i++) {
    const response = await ask(i);
    await response.arrayBuffer();
    statuses.push(response.status);
  }
  return statuses;
}

const wouldReject = (gateway: Running, code: string) =>
  gateway.metric('patchgate_would_reject_total', { tenant: 'reader', code });
const predictedLines = (gateway: Running) =>
  gateway.logs().flatMap(({ wouldReject: code, status }) => (code === undefined ? [] : [[code, status]]));

describe('a tenant with enforcement: observe', () => {
  test('is let through above its rate; it is counted, logged and shown, and its fields say what would be left', async () => {
    await using gateway = await run({ config: configOf('observe') });
    const answers: Response[] = [];
    for (let i = 0; i < 8; i++) answers.push(await gateway.fetch('/api/v1/flow-runs', AS_READER));
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
    expect(gateway.simulator.arrivals()).toHaveLength(8);
    expect(answers.map(({ headers }) => headers.get('x-ratelimit-remaining'))).toEqual([
      '4',
      '3',
      '2',
      '1',
      '0',
      '0',
      '0',
      '0',
    ]);
    expect(await wouldReject(gateway, 'tenant_quota')).toBe(3);
    expect(predictedLines(gateway)).toEqual(Array(3).fill(['tenant_quota', 200]));
    const status = (await (await fetch(`${gateway.adminUrl}/status`)).json()) as {
      tenants: Record<string, { enforcement: string; recent: Record<string, number> }>;
    };
    expect(status.tenants['reader']).toMatchObject({
      enforcement: 'observe',
      recent: { requests: 8, refused: 0, wouldReject: 3 },
    });
    expect(status.tenants['billing']).toMatchObject({ enforcement: 'enforce', recent: { wouldReject: 0 } });
    const whoami = await (await gateway.fetch('/_gateway/whoami', AS_READER)).json();
    expect(whoami).toMatchObject({ enforcement: 'observe', quota: { requestsPerMinute: 30, burst: 5, remaining: 0 } });
  });

  test.each(['embedded', 'Redis'])(
    'is let through above its part of a budget, which is predicted: state %s',
    async (state) => {
      const budgets = { reads: { match: ['GET /api/v1/**'], limit: 5, per: 'day' } };
      await using gateway = await run({
        // Without requests that count.
        cold: true,
        config: (upstream) => {
          const given = configOf(
            'observe',
            state === 'Redis' ? { redis: { url: redis.url, prefix: 'parts' } } : {},
          )(upstream);
          const { main } = given['accounts'] as Record<string, Config>;
          const tenants = given['tenants'] as Record<string, Config>;
          return {
            ...given,
            accounts: { main: { ...main, budgets } },
            tenants: {
              ...tenants,
              reader: { ...tenants['reader'], quota: { rate: 100, burst: 50 }, budgets: { reads: 2 } },
            },
          };
        },
      });
      const headers = { ...AS_READER.headers, Prefer: 'wait=10' };
      const statuses = await statusesOf(6, () => gateway.fetch('/api/v1/flow-runs', { headers }));
      // The account's budget holds as always.
      expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);
      expect(await wouldReject(gateway, 'budget_exhausted')).toBeGreaterThanOrEqual(3);
      expect(gateway.simulator.arrivals()).toHaveLength(5);
    },
  );

  test('passes its own allow, which spends nothing of its predicted rate; the denylist and keys hold', async () => {
    await using gateway = await run({ config: configOf('observe') });
    const post = (path: string) => gateway.fetch(path, { method: 'POST', body: '{}', ...AS_READER });
    const writes = await statusesOf(7, () => post('/api/v1/flows/1/start'));
    expect(writes).toEqual(Array(7).fill(200));
    expect(await wouldReject(gateway, 'route_forbidden')).toBe(7);
    expect(await wouldReject(gateway, 'tenant_quota')).toBe(0);
    const read = await gateway.fetch('/api/v1/flow-runs', AS_READER);
    expect(read.headers.get('x-ratelimit-remaining')).toBe('4');
    const denied = await Promise.all([
      gateway.fetch('/api/v1/api-keys', AS_READER),
      post('/api/v1/users'),
      gateway.fetch('/api/v1/flow-runs', { headers: { Authorization: DISABLED_KEY } }),
    ]);
    expect(await Promise.all(denied.map(codeOf))).toEqual(['route_forbidden', 'route_forbidden', 'tenant_disabled']);
    expect(await wouldReject(gateway, 'route_forbidden')).toBe(7);
  });

  test('would only have waited: nothing is counted, until the wait would be too long', async () => {
    await using gateway = await run({ config: configOf('observe') });
    const waiting = { headers: { Authorization: READER_KEY, Prefer: 'wait=5' } };
    // 5 at once; the next two in two and four seconds.
    await Promise.all(Array.from({ length: 10 }, () => gateway.fetch('/api/v1/flow-runs', waiting)));
    expect(await wouldReject(gateway, 'tenant_quota')).toBe(3);
  });

  test('is held back by the ceiling of the account as always', async () => {
    const more = {
      accounts: {
        main: {
          quota: { limit: 10, ceiling: 7, burst: 7 },
          credentials: [{ id: 'one', apiKey: 'fake-patchworks-key-primary' }],
        },
      },
    };
    await using gateway = await run({ config: configOf('observe', more) });
    const statuses = await statusesOf(10, () => gateway.fetch('/api/v1/flow-runs', AS_READER));
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThanOrEqual(3);
    expect(gateway.simulator.arrivals().length).toBeLessThan(8);
  });
});

test('three replicas are back, and predict, after Redis was gone and has lost its memory', async () => {
  await using server = await redisServer();
  const simulator = await createSimulator();
  const gateways: Running[] = [];
  try {
    const config = configOf('observe', { redis: { url: server.url, prefix: 'outage' } });
    for (let i = 0; i < 3; i++) gateways.push(await run({ upstream: simulator, config }));
    const ask = () =>
      Promise.all(gateways.map((each) => statusesOf(4, () => each.fetch('/api/v1/flow-runs', AS_READER))));
    const sumOf = async (name: string, labels?: Record<string, string>) =>
      (await Promise.all(gateways.map((each) => each.metric(name, labels)))).reduce((sum, each) => sum + each, 0);
    await ask();
    await server.kill();
    await until('the replicas work alone', async () => {
      await ask();
      return (await sumOf('patchgate_redis_fallback_active')) === 3;
    });
    await server.start();
    await until(
      'they are back',
      async () => (await sumOf('patchgate_redis_fallback_active')) === 0 && (await sumOf('patchgate_redis_up')) === 3,
    );
    const predicted = () => sumOf('patchgate_would_reject_total', { tenant: 'reader', code: 'tenant_quota' });
    const before = await predicted();
    await until('requests are predicted', async () => {
      await ask();
      return (await predicted()) > before;
    });
  } finally {
    for (const each of gateways) await each[Symbol.asyncDispose]();
    await simulator.close();
  }
}, 60_000);

describe('a tenant that is moved from observe to enforce', () => {
  test.each([
    ['embedded', 1],
    ['two replicas on Redis', 2],
  ])('is rejected as it was predicted: %s', async (kind, replicas) => {
    const simulator = await createSimulator();
    const gateways: Running[] = [];
    try {
      const more = kind === 'embedded' ? {} : { redis: { url: redis.url, prefix: 'observe' } };
      for (let i = 0; i < replicas; i++)
        gateways.push(await run({ upstream: simulator, config: configOf('observe', more) }));
      simulator.reset();
      const at = (index: number) => gateways[index % replicas] as Running;
      const ask = (index: number) => at(index).fetch('/api/v1/flow-runs', AS_READER);
      const observed = await statusesOf(9, ask);
      const predicted = await Promise.all(gateways.map((each) => wouldReject(each, 'tenant_quota')));
      for (const each of gateways) await each.reload(configOf('enforce', more));
      const enforced = await statusesOf(9, ask);
      expect(observed).toEqual(Array(9).fill(200));
      // The bucket of 5 gains one in two seconds: on a slow machine a request more may pass.
      const rejected = enforced.filter((status) => status === 429).length;
      const sum = predicted.reduce((total, each) => total + each, 0);
      process.stdout.write(`${kind}: predicted ${sum}, rejected ${rejected} of 9\n`);
      expect(sum).toBeGreaterThanOrEqual(3);
      expect(sum).toBeLessThanOrEqual(4);
      expect(Math.abs(rejected - sum)).toBeLessThanOrEqual(1);
      const metric = (each: Running) =>
        each.metric('patchgate_rejections_total', { tenant: 'reader', code: 'tenant_quota' });
      const counted = await Promise.all(gateways.map(metric));
      expect(counted.reduce((total, each) => total + each, 0)).toBe(rejected);
    } finally {
      for (const each of gateways) await each[Symbol.asyncDispose]();
      await simulator.close();
    }
  });
});
