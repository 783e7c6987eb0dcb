import { afterAll, beforeAll, expect, test } from 'vitest';
import { NEVER_DISCONNECTS } from '../../src/context.ts';
import { createAdmissionQueue } from '../../src/quota/admission-queue.ts';
import type { TenantQuota } from '../../src/quota/quota-store.ts';
import { QuotaSimulation } from '../support/quota-simulation.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };

test('on three replicas an urgent request is overtaken at most by the request that each other replica is about to send', async () => {
  // A slot in each second.
  const account = { limit: 61, ceiling: 60, burst: 1 };
  const tenants = { a: ROOMY, first: ROOMY };
  const world = new QuotaSimulation({ redis: server.client(), account, tenants, prefix: 'priority' });
  for (let i = 0; i < 3; i++) await world.join();
  await world.pass(3_000);
  const queues = world.replicas.map(({ store }) => createAdmissionQueue({ quotaStore: store, clock: world.clock }));
  const log: string[] = [];
  const enter = async (replica: number, name: string, urgency: number, tenant = 'a', maxWaitMs = 29_000) => {
    const terms = { account: 'main', tenant, maxWaitMs, urgency, disconnect: NEVER_DISCONNECTS };
    const admission = await queues[replica]?.enter(terms);
    log.push(name);
    if (admission?.kind === 'admitted') admission.slot.complete({ limit: null, remaining: null, throttled: null });
    return admission?.kind === 'admitted';
  };
  // New state sends one request alone; what has become free meanwhile is used up.
  void enter(0, '', 3, 'first');
  await world.pass(5_000);
  while (await enter(0, '', 3, 'first', 0));
  log.length = 0;
  for (const replica of [0, 1, 2]) for (let i = 0; i < 4; i++) void enter(replica, 'idle', 7);
  await world.pass(1_500);
  for (const replica of [0, 1, 2]) void enter(replica, 'usual', 3);
  void enter(2, 'URGENT', 0);
  const before = log.length;
  await world.pass(14_000);
  const after = log.slice(before);
  expect(after.indexOf('URGENT')).toBeLessThanOrEqual(2);
  // The usual ones are before all but those that each replica was about to send.
  expect(after.lastIndexOf('usual')).toBeLessThanOrEqual(5);
  expect(log.filter((each) => each === 'idle').length).toBeGreaterThan(5);
}, 60_000);
