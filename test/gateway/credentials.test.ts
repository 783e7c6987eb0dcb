import { describe, expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { fastClock } from '../support/fast-clock.ts';
import { arrived, codeOf, configuration, eventually, loginAt, PRIMARY, run, SPARE } from '../support/gateway.ts';

const withCredentials = (credentials: (upstream: string) => unknown[]) => (upstream: string) =>
  configuration(upstream, { accounts: { main: { quota: { burst: 200 }, credentials: credentials(upstream) } } });

const paths = (gateway: Awaited<ReturnType<typeof run>>) => gateway.simulator.arrivals().map((each) => each.target);
const logins = (gateway: Awaited<ReturnType<typeof run>>) =>
  paths(gateway).filter((path) => path === '/fabric/api/login').length;

describe('an account with a login', () => {
  test('logs in once for many requests, and its password and token never reach a caller', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]) });
    const before = logins(gateway);
    const responses = await Promise.all(Array.from({ length: 20 }, () => gateway.fetch('/api/v1/flow-runs')));
    expect(responses.map((response) => response.status)).toEqual(Array(20).fill(200));
    expect(logins(gateway) - before).toBe(0);
    const [arrival] = gateway.simulator.arrivals();
    const token = arrived(arrival!.headers, 'authorization')!;
    expect(token).toMatch(/^Bearer [\w-]+\.[\w-]+\.[\w-]+$/);
    const shown = JSON.stringify(responses.map((response) => [...response.headers])) + gateway.logText();
    expect(shown).not.toContain(token.slice(7));
    expect(shown).not.toContain('fake-password');
  });

  test('makes one login for all requests that wait for the first', async () => {
    await using gateway = await run({
      cold: true,
      config: withCredentials((upstream) => [loginAt(upstream)]),
      simulator: { switches: { responseLatency: { kind: 'fixed', ms: 50 } } },
    });
    const statuses = (await Promise.all(Array.from({ length: 5 }, () => gateway.fetch('/api/v1/flow-runs')))).map(
      (each) => each.status,
    );
    expect(logins(gateway)).toBeLessThanOrEqual(1);
    // A cold gateway without Redis sends one request first; no other request gets a 401 or a 502 for that.
    expect(new Set(statuses)).not.toContain(401);
    expect(new Set(statuses)).not.toContain(502);
  });

  test('renews its token before it expires, and uses the old one until then', async () => {
    const clock = fastClock(20);
    const simulator = await createSimulator({ clock, switches: { tokenLifeSeconds: 60 } });
    try {
      const config = withCredentials((upstream) => [loginAt(upstream)]);
      await using gateway = await run({ clock, upstream: simulator, config });
      expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
      const old = arrived(gateway.simulator.arrivals()[0]!.headers, 'authorization');
      await eventually(() => logins(gateway) === 1, 'the token is renewed');
      expect(simulator.credentials.identify(old)?.kind).toBe('token');
      await eventually(async () => {
        await gateway.fetch('/api/v1/flow-runs');
        return arrived(gateway.simulator.arrivals().at(-1)!.headers, 'authorization') !== old;
      }, 'the new token is used');
      expect(gateway.simulator.arrivals().map(({ status }) => status)).not.toContain(401);
    } finally {
      await simulator.close();
    }
  });

  test('logs in again when its token stops working, and callers notice nothing', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]) });
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    gateway.simulator.credentials.expireTokens();
    const responses = await Promise.all(Array.from({ length: 10 }, () => gateway.fetch('/api/v1/flow-runs')));
    expect(responses.map((response) => response.status)).toEqual(Array(10).fill(200));
    expect(logins(gateway)).toBe(1);
    expect(await gateway.metric('patchgate_upstream_retries_total')).toBeGreaterThanOrEqual(1);
  });

  test('sends a write again after a 401 with the same body, once', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]) });
    gateway.simulator.credentials.expireTokens();
    const response = await gateway.fetch('/api/v1/data-pool', { method: 'POST', body: '{"name":"x"}' });
    expect(response.status).toBe(201);
    const writes = gateway.simulator.arrivals().filter((each) => each.target === '/api/v1/data-pool');
    expect(writes.map((each) => [each.status, each.bodyBytes])).toEqual([
      [401, 12],
      [201, 12],
    ]);
  });

  test('answers 502, not 401, when the password is wrong, and does not try it for every request', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]), cold: true });
    gateway.simulator.credentials.rejectLogins(true);
    const first = await gateway.fetch('/api/v1/flow-runs');
    expect([first.status, await codeOf(first)]).toEqual([502, 'upstream_credentials_rejected']);
    expect(first.headers.get('retry-after')).toMatch(/^\d+$/);
    for (let i = 0; i < 5; i++) await gateway.fetch('/api/v1/flow-runs');
    expect(logins(gateway)).toBe(1);
  });

  test('uses a password that a reload has corrected at once, whatever its backoff', async () => {
    const config = (password: string) =>
      withCredentials((upstream) => {
        const { id, login } = loginAt(upstream);
        return [{ id, login: { ...login, password } }];
      });
    await using gateway = await run({ config: config('fake-wrong-password'), cold: true });
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(502);
    await gateway.reload(withCredentials((upstream) => [loginAt(upstream)]));
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(logins(gateway)).toBe(2);
  });

  test('answers 502 while the identity host is down, and logs in no more often than its backoff allows', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]), cold: true });
    gateway.simulator.fault({ match: 'POST /fabric/api/login', fault: { kind: 'status', status: 503 } });
    const responses = await Promise.all(Array.from({ length: 10 }, () => gateway.fetch('/api/v1/flow-runs')));
    expect(new Set(responses.map(({ status }) => status))).not.toContain(401);
    const response = await gateway.fetch('/api/v1/flow-runs');
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_unreachable']);
    expect(logins(gateway)).toBe(1);
  });

  test('takes a slot for its login like for any other request', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [loginAt(upstream)]) });
    const before = await gateway.metric('patchgate_quota_slots_in_use');
    gateway.simulator.credentials.expireTokens();
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    // The 401, the login and the second attempt.
    expect((await gateway.metric('patchgate_quota_slots_in_use')) - before).toBe(3);
  });
});

describe('an account with several credentials', () => {
  test('fails over at once when the first is revoked, for reads and writes', async () => {
    await using gateway = await run();
    gateway.simulator.credentials.revokeKey('primary');
    const response = await gateway.fetch('/api/v1/data-pool', { method: 'POST', body: '{"name":"x"}' });
    expect(response.status).toBe(201);
    expect(gateway.simulator.arrivals().map((each) => each.credential)).toEqual([null, 'spare']);
    await gateway.fetch('/api/v1/flow-runs');
    expect(gateway.simulator.arrivals().map((each) => each.credential)).toEqual([null, 'spare', 'spare']);
  });

  test('fails over from a key to a login', async () => {
    await using gateway = await run({ config: withCredentials((upstream) => [PRIMARY, loginAt(upstream)]) });
    gateway.simulator.credentials.revokeKey('primary');
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(paths(gateway)).toEqual(['/api/v1/flow-runs', '/fabric/api/login', '/api/v1/flow-runs']);
  });

  test('answers 502 when none works, so that the tenant does not suspect its own key', async () => {
    await using gateway = await run({ config: withCredentials(() => [PRIMARY, SPARE]) });
    gateway.simulator.credentials.revokeKey('primary');
    gateway.simulator.credentials.revokeKey('spare');
    const response = await gateway.fetch('/api/v1/flow-runs');
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    expect(response.headers.get('www-authenticate')).toBeNull();
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('a body too large to keep is not sent twice: 502, and the next request uses the other credential', async () => {
    await using gateway = await run();
    gateway.simulator.credentials.revokeKey('primary');
    const body = Buffer.alloc(2_000_000, ' ');
    const response = await gateway.fetch('/api/v1/data-pool', { method: 'POST', body });
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  });

  test('each attempt takes a slot', async () => {
    await using gateway = await run();
    const before = await gateway.metric('patchgate_quota_slots_in_use');
    gateway.simulator.credentials.revokeKey('primary');
    await gateway.fetch('/api/v1/flow-runs');
    expect((await gateway.metric('patchgate_quota_slots_in_use')) - before).toBe(2);
  });
});

test('an API key goes upstream verbatim, without a scheme word', async () => {
  await using gateway = await run();
  await gateway.fetch('/api/v1/flow-runs');
  expect(arrived(gateway.simulator.arrivals()[0]!.headers, 'authorization')).toBe(FAKE_PRIMARY_KEY);
});
