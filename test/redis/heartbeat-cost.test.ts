import { afterAll, beforeAll, expect, test } from 'vitest';
import { LocalLeases } from '../../src/adapters/redis/quota/local-leases.ts';
import { QuotaClient } from '../../src/adapters/redis/quota/quota-client.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('a heartbeat counts the completed slots of an account at most once a second of the lease, and of an idle one never', async () => {
  const client = server.client();
  const clock = new ManualClock();
  const leases = new LocalLeases();
  const quota = { limit: 240, ceiling: 235, burst: 60 };
  const tenants = new Map([['a', { rate: 60, burst: 20, weight: 1, reserved: 0, maxWaitMs: 0 }]]);
  const redis = new QuotaClient(
    {
      ...{ connection: { client, isCluster: false, isReady: () => true, epoch: () => 1 }, clock, leases },
      ...{ serverTime: () => 1_760_000_000_000 + clock.monotonic(), prefix: 'test', account: 'idle', process: 'p' },
      ...{
        replica: () => 'one',
        onOutage: 'local',
        replicaGraceMs: 120_000,
        maxInFlightMs: 400_000,
        newTicket: () => 'ticket',
      },
    },
    quota,
    tenants,
  );
  await redis.join(null, { cooldownMs: 0, advertised: null });
  // A state made anew waits for other replicas before it admits.
  clock.advance(2_500);
  await redis.join(null, { cooldownMs: 0, advertised: null });
  const heartbeat = async () => {
    await client.config('RESETSTAT');
    const snapshot = await redis.heartbeat(null);
    const counts = Number(/cmdstat_zcount:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
    return { expiries: snapshot?.expiries, counts };
  };
  expect(await heartbeat()).toEqual({ expiries: [], counts: 0 });

  const admitted = await redis.admit({ tenant: 'a', maxWaitMs: 0 });
  if (admitted.kind !== 'admitted') throw new Error(`not admitted: ${admitted.kind}`);
  const { admittedAt, completedBefore, freedBefore } = admitted;
  const completion = { kind: 'response', admittedAt, completedBefore, freedBefore } as const;
  leases.complete(leases.begin(clock.monotonic()), completion, clock.monotonic());
  await redis.complete();
  // It is free in 60.1 s.
  expect(await heartbeat()).toEqual({ expiries: [[61_000, 1]], counts: 61 });
});
