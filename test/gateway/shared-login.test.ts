import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Fleet, type FleetOptions, fleet } from '../support/fleet.ts';
import { arrived, type Config, type Running, run } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

const LOGIN = '/fabric/api/login';
const PATH = '/api/v1/flow-runs';
const KEY = { id: 'k1', secret: '0f'.repeat(32) };
const NEXT_KEY = { id: 'k2', secret: '1e'.repeat(32) };

let server: RedisServer;
beforeAll(async () => {
  server = await redisServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const three = (options: FleetOptions = {}, redis = server): Promise<Fleet> =>
  fleet(redis, 3, { login: true, redis: { encryption: { keys: [KEY] } }, ...options });
const logins = ({ simulator }: Fleet): number =>
  simulator.arrivals().filter(({ target }) => target.startsWith(LOGIN)).length;
/** Waits for its slot: a state that is new waits for other replicas first. */
const ask = async (gateway: Running): Promise<number> => {
  let status = 0;
  // No slot could be asked for, as on a machine that stands still for seconds: that says nothing of logins.
  await until('there is a slot', async () => {
    const response = await gateway.fetch(PATH, { headers: { Prefer: 'wait=10' } });
    await response.arrayBuffer();
    status = response.status;
    return status !== 503;
  });
  return status;
};
const askAll = (fleet: Fleet, count: number): Promise<number[]> =>
  Promise.all(Array.from({ length: count }, (_, n) => ask(fleet.at(n))));
const tokensUsed = ({ simulator }: Fleet): Set<string | undefined> =>
  new Set(
    simulator
      .arrivals()
      .filter(({ target }) => target === PATH)
      .map(({ headers }) => arrived(headers, 'authorization')),
  );
const recordOf = async (redis: RedisServer, prefix: string) => {
  const client = redis.client();
  const [key = ''] = await client.keys(`${prefix}:{main}:login:*`);
  return { client, key, fields: await client.hgetall(key) };
};
const refreshes = async ({ all }: Fleet, outcome: string): Promise<number> => {
  const counts = await Promise.all(all.map((each) => each.metric('patchgate_credential_refreshes_total', { outcome })));
  return counts.reduce((sum, each) => sum + each, 0);
};

describe('three replicas with one login', () => {
  test('log in once for a hundred requests at once on all of them', async () => {
    await using gateways = await three({ simulator: { switches: { answerLatency: { kind: 'fixed', ms: 60 } } } });
    expect(await askAll(gateways, 100)).toEqual(Array(100).fill(200));
    expect(logins(gateways)).toBe(1);
    expect(tokensUsed(gateways).size).toBe(1);
    expect([await refreshes(gateways, 'ok'), await refreshes(gateways, 'shared')]).toEqual([1, 2]);
  });

  test('renew its token once, before it expires, and all have the new one', async () => {
    await using gateways = await three({ simulator: { switches: { tokenLifeSeconds: 4 } } });
    expect(await askAll(gateways, 3)).toEqual([200, 200, 200]);
    const [old] = tokensUsed(gateways);
    await until('it is renewed', async () => (await refreshes(gateways, 'shared')) === 4);
    gateways.simulator.set({ tokenLifeSeconds: 86_400 });
    expect(logins(gateways)).toBe(2);
    const { credentials } = gateways.simulator;
    expect(credentials.identify(old)?.kind, 'the old token lives when the others have the new one').toBe('token');
    gateways.simulator.reset();
    expect(await askAll(gateways, 9)).toEqual(Array(9).fill(200));
    expect(tokensUsed(gateways).size).toBe(1);
    expect(tokensUsed(gateways)).not.toContain(old);
  });

  test('get one new token between them when upstream refuses the one they have, and no caller notices', async () => {
    await using gateways = await three({ simulator: { switches: { answerLatency: { kind: 'fixed', ms: 30 } } } });
    await askAll(gateways, 3);
    for (let storm = 1; storm <= 3; storm++) {
      gateways.simulator.credentials.expireTokens();
      expect(await askAll(gateways, 60)).toEqual(Array(60).fill(200));
      expect(logins(gateways)).toBe(1 + storm);
    }
  });

  test('ask an identity host that is down no more often than one would, and rest together, longer each time', async () => {
    await using gateways = await three();
    gateways.simulator.fault({ match: `POST ${LOGIN}`, fault: { kind: 'status', status: 503 } });
    const statuses = await askAll(gateways, 30);
    expect(new Set(statuses)).toEqual(new Set([502]));
    expect(logins(gateways)).toBe(1);
    await until('the second attempt', async () => {
      await askAll(gateways, 6);
      return logins(gateways) >= 2;
    });
    await askAll(gateways, 30);
    expect(logins(gateways)).toBe(2);
    const { client, key, fields } = await recordOf(server, gateways.prefix);
    expect([fields['n'], fields['w']]).toEqual(['2', 'unreachable']);
    const [seconds = ''] = await client.time();
    expect(Number(fields['r']) - Number(seconds) * 1_000).toBeGreaterThan(1_000);
    gateways.simulator.clearFaults();
    await client.hset(key, 'r', 0);
    await until('it works again', async () => (await ask(gateways.at(0))) === 200);
    await until('for all', async () => (await askAll(gateways, 3)).every((status) => status === 200));
    expect(logins(gateways)).toBe(3);
    expect((await recordOf(server, gateways.prefix)).fields['n']).toBeUndefined();
  });

  test('a wrong password that is put right is tried at once, by one, whatever the rest', async () => {
    await using gateways = await three();
    const wrong = gateways.config() as { accounts: { main: { credentials: { login: { password: string } }[] } } };
    const [{ login } = { login: { password: '' } }] = wrong.accounts.main.credentials;
    login.password = 'fake-wrong-password';
    for (const each of gateways.all) await each.reload(() => wrong as unknown as Config);
    expect(new Set(await askAll(gateways, 9))).toEqual(new Set([502]));
    expect(logins(gateways)).toBe(1);
    const { client, key } = await recordOf(server, gateways.prefix);
    const [seconds = ''] = await client.time();
    await client.hset(key, 'r', (Number(seconds) + 3_600) * 1_000);
    for (const each of gateways.all) await each.reload(() => gateways.config());
    await until('all work', async () => (await askAll(gateways, 9)).every((status) => status === 200));
    expect(logins(gateways)).toBe(2);
  });

  test('charge a login to the account, once', async () => {
    await using gateways = await three();
    // Two were needed to fill the buckets, before the record began. Whatever was sent is counted, and one login with it.
    const sent = () => 2 + gateways.simulator.arrivals().length;
    const inUse = () => gateways.at(0).metric('patchgate_quota_slots_in_use');
    await askAll(gateways, 3);
    await until('all is counted', async () => (await inUse()) === sent());
    expect(logins(gateways)).toBe(1);
    gateways.simulator.credentials.expireTokens();
    await askAll(gateways, 1);
    await until('the second attempts and the second login are, too', async () => (await inUse()) === sent());
    expect(logins(gateways)).toBe(2);
  });
});

describe('a replica that dies while it logs in', () => {
  test('is replaced by another within seconds: who waits for it gets an answer', async () => {
    await using gateways = await three();
    const hung = { ...gateways.config(), tenantsFile: undefined };
    await using files = await folder({ 'gateway.yaml': JSON.stringify(hung) });
    await using dying = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    const [, line = ''] = await dying.waitFor(/(\{.*"msg":"listening"\})/);
    const { traffic } = JSON.parse(line) as { traffic: { port: number } };
    gateways.simulator.fault({ match: `POST ${LOGIN}`, times: 1, fault: { kind: 'stall', when: 'before' } });
    const headers = { 'X-API-Key': 'pgk_billing_fake-key-for-tests', Prefer: 'wait=10' };
    const lost = fetch(`http://127.0.0.1:${traffic.port}${PATH}`, { headers }).catch(() => 'cut off');
    await until('it logs in', async () => logins(gateways) === 1);
    const waiting = askAll(gateways, 6);
    dying.child.kill('SIGKILL');
    expect(await lost).toBe('cut off');
    const began = performance.now();
    expect(await waiting).toEqual(Array(6).fill(200));
    // 3 s until it is taken for dead and half a second to look: the rest is for a slow machine.
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(logins(gateways)).toBe(2);
  });
});

describe('without Redis', () => {
  test('each replica logs in once for itself, and when it is back they agree on one token', async () => {
    await using redis = await redisServer();
    await using gateways = await three({}, redis);
    expect(await askAll(gateways, 3)).toEqual([200, 200, 200]);
    await gateways.shared();
    await redis.kill();
    await until('each has its share', async () => (await askAll(gateways, 3)).every((status) => status === 200));
    expect(logins(gateways)).toBe(1);
    gateways.simulator.credentials.expireTokens();
    await until('all work', async () => (await askAll(gateways, 30)).every((status) => status === 200));
    expect(logins(gateways)).toBe(1 + 3);
    await redis.start();
    await until('one token is known to all', async () => {
      await askAll(gateways, 3);
      gateways.simulator.reset();
      await askAll(gateways, 3);
      return tokensUsed(gateways).size === 1;
    });
    expect(logins(gateways)).toBe(0);
    const { fields } = await recordOf(redis, gateways.prefix);
    expect(fields['t']).toMatch(/^1:k1:/);
  });

  test('that hangs costs a login the deadline of a command, and no caller more', async () => {
    await using redis = await redisServer();
    await using gateways = await three({ redis: { encryption: { keys: [KEY] }, timeout: '1s' } }, redis);
    await askAll(gateways, 3);
    await gateways.shared();
    redis.stop();
    await until('they go on alone', async () => (await askAll(gateways, 3)).every((status) => status === 200));
    gateways.simulator.credentials.expireTokens();
    await until('all work', async () => (await askAll(gateways, 9)).every((status) => status === 200));
    expect(logins(gateways)).toBeLessThanOrEqual(1 + 3);
    redis.resume();
  });
});

describe('a token in Redis', () => {
  test('that was tampered with is as if it were not there: one login, no failure, and it is told and counted', async () => {
    await using gateways = await three();
    await ask(gateways.at(0));
    const { client, key, fields } = await recordOf(server, gateways.prefix);
    const sealed = String(fields['t']);
    await client.hset(key, 't', `${sealed.slice(0, -3)}${sealed.at(-3) === 'A' ? 'B' : 'A'}${sealed.slice(-2)}`);
    await using newcomer = await fleetMate(gateways);
    expect(await ask(newcomer)).toBe(200);
    expect(logins(gateways)).toBe(2);
    expect(await newcomer.metric('patchgate_credential_refreshes_total', { outcome: 'unreadable' })).toBeGreaterThan(0);
    expect(newcomer.logs().filter(({ msg }) => msg === 'the token in Redis can not be read')).toMatchObject([
      { account: 'main', credential: 'login', why: 'damaged' },
    ]);
    expect((await recordOf(server, gateways.prefix)).fields['i']).not.toBe(fields['i']);
  });

  test('is written with a new key by reloads alone: no login, no failure, and no other key is needed then', async () => {
    await using gateways = await three();
    await askAll(gateways, 3);
    const rotated = (keys: readonly (typeof KEY)[]) => {
      const config = gateways.config();
      return { ...config, redis: { ...(config['redis'] as Config), encryption: { keys } } };
    };
    const reloaded = async (keys: readonly (typeof KEY)[]) => {
      for (const each of gateways.all) {
        await each.reload(() => rotated(keys));
        expect(await askAll(gateways, 9)).toEqual(Array(9).fill(200));
      }
    };
    const cold = async (keys: readonly (typeof KEY)[]) => {
      await using newcomer = await run({ upstream: gateways.simulator, cold: true, config: () => rotated(keys) });
      expect(await ask(newcomer)).toBe(200);
      expect(await newcomer.metric('patchgate_credential_refreshes_total', { outcome: 'unreadable' })).toBe(0);
    };
    const sealedWith = (key: string) =>
      until(`it is sealed with ${key}`, async () => {
        const { fields } = await recordOf(server, gateways.prefix);
        return fields['t']?.startsWith(`1:${key}:`) === true;
      });
    await reloaded([KEY, NEXT_KEY]);
    await sealedWith('k1');
    // One that begins with the next step reads what the others have written.
    await cold([NEXT_KEY, KEY]);
    await reloaded([NEXT_KEY, KEY]);
    await sealedWith('k2');
    await reloaded([NEXT_KEY]);
    await cold([NEXT_KEY]);
    expect(logins(gateways)).toBe(1);
    expect(await refreshes(gateways, 'unreadable')).toBe(0);
  });

  test('is not there without a key for it: each replica logs in for itself', async () => {
    await using gateways = await three({ redis: {} });
    expect(await askAll(gateways, 9)).toEqual(Array(9).fill(200));
    expect(logins(gateways)).toBe(3);
    expect((await recordOf(server, gateways.prefix)).key).toBe('');
  });
});

async function fleetMate(gateways: Fleet): Promise<Running> {
  return run({ upstream: gateways.simulator, cold: true, config: () => gateways.config() });
}
