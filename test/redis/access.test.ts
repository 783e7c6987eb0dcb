import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { configuration, type Running, run } from '../support/gateway.ts';
import { type RedisServer, redisServer, until } from '../support/redis.ts';

const PASSWORD = 'fake-redis-password';
const document = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
/** The rules as docs/security.md gives them: `ACL SETUSER patchgate …`, without the password. */
const RULES = (/ACL SETUSER patchgate on >PASSWORD (.*)/.exec(document)?.[1] ?? '').split(' ');

/** A server with a user of these rules. */
async function serverFor(rules: readonly string[]) {
  const server = await redisServer();
  await server.client().call('ACL', 'SETUSER', 'patchgate', 'reset', 'on', `>${PASSWORD}`, ...rules);
  return server;
}
const runWith = (server: RedisServer, more: Record<string, unknown> = {}) =>
  run({
    cold: true,
    config: (upstream) =>
      configuration(upstream, {
        redis: { url: `redis://patchgate:${PASSWORD}@127.0.0.1:${server.port}`, ...more },
        cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '1m' }] },
      }),
  });
type Problem = { readonly code: string; readonly reason: string } | null;
async function problemOf(gateway: Running): Promise<Problem> {
  const response = await fetch(`${gateway.adminUrl}/status`);
  return ((await response.json()) as { state: { problem: Problem } }).state.problem;
}

describe('a user with the rights of docs/security.md', () => {
  test('has all that a gateway needs: slots, cache, invalidation, idempotency and abuse limits', async () => {
    await using server = await serverFor(RULES);
    await using gateway = await runWith(server);
    const wait = { Prefer: 'wait=10' };
    expect((await gateway.fetch('/api/v1/flows', { headers: wait })).status).toBe(200);
    expect((await gateway.fetch('/api/v1/flows')).status).toBe(200);
    const write = { method: 'POST', body: '{}', headers: { ...wait, 'Idempotency-Key': 'k1' } };
    expect((await gateway.fetch('/api/v1/flows/1/start', write)).status).toBeLessThan(300);
    expect((await gateway.fetch('/api/v1/flows/1/start', write)).headers.get('idempotency-replayed')).toBe('true');
    expect((await gateway.fetch('/api/v1/flows', { headers: { Authorization: 'Bearer wrong' } })).status).toBe(401);
    const purge = await fetch(`${gateway.adminUrl}/cache/purge`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"path":"/api/v1/flows"}',
    });
    expect(purge.status).toBe(200);
    await until('it is ready', async () => (await fetch(`${gateway.adminUrl}/readyz`)).ok);
    const admin = server.client();
    expect(await admin.call('ACL', 'LOG')).toEqual([]);
    // Other programs' keys and channels, and commands for administrators, are out of reach.
    const dryRun = (...command: string[]) => admin.call('ACL', 'DRYRUN', 'patchgate', ...command);
    for (const command of [
      ['GET', 'other'],
      ['PUBLISH', 'other', 'x'],
      ['FLUSHALL'],
      ['KEYS', '*'],
      ['CONFIG', 'GET', '*'],
    ]) {
      expect(await dryRun(...command), command.join(' ')).toMatch(/no permissions|can't access/i);
    }
  });
});

// Side by side: each waits for the start of its own gateway most of the time.
describe.concurrent('a user who lacks', () => {
  test.each([
    ['scripts', ['-eval', '-evalsha'], /^NOPERM .*eval/],
    ['the keys of the prefix', ['resetkeys', '~other:*'], /^NOPERM .*key/],
    ['the time', ['-time'], /time|script/],
    ['the information on the server', ['-info'], /info|script/],
    ['commands for scripts', ['-hset'], /hset|script/],
  ])(
    '%s leaves the replica not ready, and the words of the server in the log and in /status',
    async (_, more, words) => {
      await using server = await serverFor([...RULES, ...more]);
      await using gateway = await runWith(server);
      const problem = () => problemOf(gateway);
      await until('the reason is known', async () => words.test((await problem())?.reason ?? ''));
      const readiness = await fetch(`${gateway.adminUrl}/readyz`);
      expect([readiness.status, await readiness.json()]).toEqual([
        503,
        { ready: false, reasons: [`redis ${(await problem())?.code}`] },
      ]);
      await until('it is logged', async () => gateway.logText().includes('Redis refuses commands'));
      const line = gateway.logs().find(({ msg }) => msg === 'Redis refuses commands');
      expect(String(line?.['reason'])).toMatch(words);
      expect(gateway.logText()).not.toContain(PASSWORD);
      // Given the right, it joins by itself.
      await server.client().call('ACL', 'SETUSER', 'patchgate', 'resetkeys', ...RULES);
      await until('it is ready', async () => (await fetch(`${gateway.adminUrl}/readyz`)).ok);
    },
  );
});

describe('a server that cannot be used', () => {
  test('because it is a replica has a code of its own, and used again when it is a master', async () => {
    await using server = await redisServer();
    const admin = server.client();
    await admin.replicaof('127.0.0.1', 1);
    await using gateway = await run({
      cold: true,
      config: (upstream) => configuration(upstream, { redis: { url: server.url } }),
    });
    const problem = () => problemOf(gateway);
    await until('it is known', async () => (await problem())?.code === 'READONLY');
    await admin.replicaof('NO', 'ONE');
    await until('it is ready', async () => (await fetch(`${gateway.adminUrl}/readyz`)).ok);
  });

  test('because it is a node of a Cluster has a code of its own', async () => {
    await using server = await redisServer({ args: ['--cluster-enabled', 'yes'] });
    await using gateway = await run({
      cold: true,
      config: (upstream) => configuration(upstream, { redis: { url: server.url } }),
    });
    const problem = () => problemOf(gateway);
    await until('it is known', async () => (await problem())?.code === 'CLUSTERDOWN');
    expect((await fetch(`${gateway.adminUrl}/readyz`)).status).toBe(503);
  });
});

describe('a server that removes keys when its memory is full', () => {
  const evictionOf = async ({ adminUrl }: { adminUrl: string }) =>
    ((await (await fetch(`${adminUrl}/status`)).json()) as { state: { eviction: unknown } }).state.eviction;
  const WARNING = 'Redis removes keys when its memory is full';

  test.each([
    ['volatile-lru', '50mb', true],
    ['allkeys-random', '50mb', true],
    ['noeviction', '50mb', false],
    // Without a limit it is never full.
    ['allkeys-lru', '0', false],
  ])('by the policy %s, with a maxmemory of %s, is in the log and in /status: %s', async (policy, memory, removes) => {
    await using server = await serverFor([...RULES]);
    await server.client().config('SET', 'maxmemory', memory);
    await server.client().config('SET', 'maxmemory-policy', policy);
    await using gateway = await runWith(server);
    await until('it is known', async () => (await evictionOf(gateway)) !== null);
    expect(await evictionOf(gateway)).toEqual({ policy, removes });
    const warnings = gateway.logs().filter(({ msg }) => String(msg).startsWith(WARNING));
    expect(warnings.map((line) => line['policy'])).toEqual(removes ? [policy] : []);
  });
});
