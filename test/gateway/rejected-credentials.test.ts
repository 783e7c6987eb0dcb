import { describe, expect, test } from 'vitest';
import {
  type Config,
  codeOf,
  configuration,
  eventually,
  loginAt,
  PRIMARY,
  type Running,
  run,
  SPARE,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { redisServer } from '../support/redis.ts';

const READ = '/api/v1/flow-runs';
const ALONE = [PRIMARY];
const WITH_SPARE = [PRIMARY, SPARE];

/** The account may send one request a second, and some at once. */
const busyAccount = (credentials: Credentials, more: Config = {}) => {
  const billing = { ...TENANTS.billing, quota: { burst: 200, maxWait: '10s' } };
  return (upstream: string) => {
    const given = typeof credentials === 'function' ? credentials(upstream) : credentials;
    const accounts = { main: { quota: { limit: 240, ceiling: 60, burst: 2 }, credentials: given } };
    return configuration(upstream, { accounts, tenants: { ...TENANTS, billing }, ...more });
  };
};
type Credentials = readonly unknown[] | ((upstream: string) => readonly unknown[]);
const withoutWait = { headers: { Prefer: 'wait=0' } };
const credentials = (gateway: Running) => gateway.simulator.arrivals().map(({ credential }) => credential);

/** Takes what the account has now. */
const useUp = async (gateway: Running): Promise<void> => {
  // A replica that has just started waits for others first.
  await gateway.fetch(READ);
  for (let sent = 0; sent < 10; sent += 1) {
    if ((await gateway.fetch(READ, withoutWait)).status === 429) break;
  }
};

/** @returns how many requests have arrived */
const leaveOneSlot = async (gateway: Running, clock: ManualClock): Promise<number> => {
  for (let sent = 0; sent < 20; sent += 1) {
    if ((await gateway.fetch(READ, withoutWait)).status === 429) break;
  }
  clock.advance(1_200);
  return gateway.simulator.arrivals().length;
};

// Side by side: each waits for slots most of the time.
describe.concurrent.each(['embedded', 'Redis'])('a credential that Patchworks rejects, with the state %s', (state) => {
  const scene = async (given: Credentials) => {
    const redis = state === 'Redis' ? await redisServer() : null;
    const gateway = await run({
      config: busyAccount(given, redis === null ? {} : { redis: { url: redis.url } }),
      cold: true,
    });
    return {
      gateway,
      async [Symbol.asyncDispose]() {
        await gateway[Symbol.asyncDispose]();
        await redis?.[Symbol.asyncDispose]();
      },
    };
  };

  test('and no other: 502 on a freshly started account, after one request', async () => {
    await using it = await scene(ALONE);
    it.gateway.simulator.credentials.revokeKey('primary');
    const response = await it.gateway.fetch(READ);
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    expect(it.gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('and another: a freshly started account answers with the other', async () => {
    await using it = await scene(WITH_SPARE);
    it.gateway.simulator.credentials.revokeKey('primary');
    expect((await it.gateway.fetch(READ)).status).toBe(200);
    expect(credentials(it.gateway)).toEqual([null, 'spare']);
  });

  test('and no other: 502 on a busy account, though no slot is free', async () => {
    await using it = await scene(ALONE);
    await useUp(it.gateway);
    it.gateway.simulator.credentials.revokeKey('primary');
    it.gateway.simulator.reset();
    const responses = await Promise.all([it.gateway.fetch(READ), it.gateway.fetch(READ), it.gateway.fetch(READ)]);
    for (const response of responses) {
      expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    }
    // Later requests do not even wait for a slot.
    const arrived = it.gateway.simulator.arrivals().length;
    const later = await it.gateway.fetch(READ, withoutWait);
    expect([later.status, await codeOf(later)]).toEqual([502, 'upstream_credentials_rejected']);
    expect(it.gateway.simulator.arrivals()).toHaveLength(arrived);
  });

  test('and another: on a busy account the request waits for a slot again, within its maxWait', async () => {
    await using it = await scene(WITH_SPARE);
    await useUp(it.gateway);
    it.gateway.simulator.credentials.revokeKey('primary');
    it.gateway.simulator.reset();
    const responses = await Promise.all([it.gateway.fetch(READ), it.gateway.fetch(READ), it.gateway.fetch(READ)]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200]);
    // With Redis two may be sent before the first response.
    expect(credentials(it.gateway)).toContain(null);
    expect(credentials(it.gateway).filter((credential) => credential === 'spare')).toHaveLength(3);
  });

  test('and a login: on a busy account its token is replaced, and the request waits for a slot again', async () => {
    await using it = await scene((upstream) => [loginAt(upstream)]);
    await useUp(it.gateway);
    it.gateway.simulator.credentials.expireTokens();
    it.gateway.simulator.reset();
    expect((await it.gateway.fetch(READ)).status).toBe(200);
    expect(it.gateway.simulator.arrivals().map(({ status }) => status)).toEqual([401, 200, 200]);
  });
});

describe('the attempt after a 401', () => {
  const start = async (given: readonly unknown[], more: Config = {}) => {
    const clock = new ManualClock();
    const gateway = await run({ clock, random: () => 0, config: busyAccount(given, more) });
    clock.advance(60_000);
    return { clock, gateway };
  };

  test('is not waited for without another credential: the clock stands still, and no slot is free', async () => {
    const { gateway } = await start(ALONE);
    await using _ = gateway;
    await gateway.fetch(READ);
    gateway.simulator.credentials.revokeKey('primary');
    // It takes the last slot.
    const codes = [await codeOf(await gateway.fetch(READ)), await codeOf(await gateway.fetch(READ))];
    expect(codes).toEqual(['upstream_credentials_rejected', 'upstream_credentials_rejected']);
    expect(gateway.simulator.arrivals().map(({ status }) => status)).toEqual([200, 401]);
  });

  test('waits for a slot as long as the tenant allows, without a permit', async () => {
    const { clock, gateway } = await start(WITH_SPARE, {});
    await using _ = gateway;
    const before = await leaveOneSlot(gateway, clock);
    gateway.simulator.credentials.revokeKey('primary');
    const waiting = gateway.fetch(READ);
    await eventually(() => gateway.simulator.arrivals().length === before + 1, 'the first attempt');
    await eventually(async () => (await gateway.metric('patchgate_quota_waiting')) === 1, 'it waits');
    expect(await gateway.metric('patchgate_upstream_in_flight', { upstream: 'core' })).toBe(0);
    await eventually(() => {
      clock.advance(100);
      return gateway.simulator.arrivals().length === before + 2;
    }, 'the second attempt');
    expect((await waiting).status).toBe(200);
    expect(await gateway.metric('patchgate_upstream_in_flight', { upstream: 'core' })).toBe(0);
    expect(credentials(gateway).slice(before)).toEqual([null, 'spare']);
  });

  test('of a keyed write that gets no slot: 429, and the write may be sent again', async () => {
    const { clock, gateway } = await start(WITH_SPARE);
    await using _ = gateway;
    const before = await leaveOneSlot(gateway, clock);
    gateway.simulator.credentials.revokeKey('primary');
    const headers = { ...withoutWait.headers, 'Idempotency-Key': 'k1', 'Content-Type': 'application/json' };
    const write = { method: 'POST', body: '{"name":"x"}', headers };
    const refused = await gateway.fetch('/api/v1/data-pool', write);
    expect([refused.status, await codeOf(refused)]).toEqual([429, 'account_quota']);
    clock.advance(2_000);
    expect((await gateway.fetch('/api/v1/data-pool', write)).status).toBe(201);
    const statuses = gateway.simulator.arrivals().map(({ status }) => status);
    expect(statuses.slice(before)).toEqual([401, 201]);
  });
});
