import { afterAll, beforeAll, expect, test } from 'vitest';
import { Link } from '../../src/adapters/redis/link.ts';
import { OwnSlots } from '../../src/adapters/redis/own-slots.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('a beat looks for answered slots only as far as there are some: of an idle account at none of the 602 steps', async () => {
  const client = server.client();
  const clock = new ManualClock();
  const own = new OwnSlots();
  const link = new Link({
    ...{ connection: { client, isCluster: false, isReady: () => true, epoch: () => 1 }, clock, own },
    ...{ serverTime: () => 1_760_000_000_000 + clock.monotonic(), prefix: 'test', account: 'idle', process: 'p' },
    ...{ replica: () => 'one', onOutage: 'local', reserveMs: 120_000, flightMs: 400_000, newTicket: () => 'ticket' },
  });
  const quota = { limit: 240, ceiling: 235, burst: 60 };
  await link.enter(quota, null, 0);
  // A state made anew waits for other replicas before it admits.
  clock.advance(2_500);
  await link.enter(quota, null, 0);
  const reads = async () => {
    await client.config('RESETSTAT');
    const standing = await link.beat(quota, '', null);
    return {
      answered: [...(standing?.steps.values() ?? [])].reduce((sum, count) => sum + count, 0),
      hmget: Number(/cmdstat_hmget:calls=(\d+)/.exec(await client.info('commandstats'))?.[1]),
    };
  };
  // The state itself, and what upstream has told of the account.
  expect(await reads()).toEqual({ answered: 0, hmget: 2 });

  const admitted = await link.admit('a', { rate: 60, burst: 20, weight: 1 }, 0, quota, 0);
  if (admitted.kind !== 'admitted') throw new Error(`not admitted: ${admitted.kind}`);
  own.end(
    own.begin(clock.monotonic()),
    ['s', admitted.admittedAt, admitted.answeredBefore, -1, 0, -1],
    clock.monotonic(),
  );
  await link.settle(quota);
  // It is free in 60 s, so it is found at the end of the steps: in ten pieces.
  expect(await reads()).toEqual({ answered: 1, hmget: 2 + 10 });
});
