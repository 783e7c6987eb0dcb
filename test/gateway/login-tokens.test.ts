import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { codeOf, configuration, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** A host that answers each login with this body, and a gateway that logs in there. Its upstream accepts no token of it. */
async function loggingInAt(body: (login: number) => string) {
  let logins = 0;
  const identity = createServer((_request, response) => {
    logins += 1;
    response.setHeader('Content-Type', 'application/json').end(body(logins));
  });
  await new Promise<void>((resolve) => identity.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(identity.address() as AddressInfo).port}/login`;
  const credentials = [{ id: 'login', login: { url, username: 'fake-user', password: 'fake-password' } }];
  const clock = new ManualClock();
  const gateway = await run({
    clock,
    cold: true,
    config: (upstream) => configuration(upstream, { accounts: { main: { quota: { burst: 200 }, credentials } } }),
  });
  return {
    clock,
    gateway,
    logins: () => logins,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      identity.close();
      identity.closeAllConnections();
    },
  };
}

describe('the token of a login', () => {
  test.each([
    ['0.001', 60],
    ['0', 60],
    ['-5', 60],
    ['1e999', 604_800],
    ['31536000000', 604_800],
    ['7200', 7_200],
    ['"soon"', 3_600],
    ['null', 3_600],
  ])('with expires_in %s is used for %i seconds', async (expiresIn, lifeSeconds) => {
    await using it = await loggingInAt(() => `{"token":"fake-token","expires_in":${expiresIn}}`);
    await it.gateway.fetch('/api/v1/flow-runs');
    expect(it.gateway.logs().find(({ msg }) => msg === 'logged in')).toMatchObject({ lifeSeconds });
  });

  test.each([
    ['of 8 KiB is used', 'a'.repeat(8_192), null],
    ['above 8 KiB is no token', 'a'.repeat(8_193), 'the token is larger than 8192 bytes'],
    ['of 60,000 characters is no token', 'a'.repeat(60_000), 'the token is larger than 8192 bytes'],
    ['with a line break is no token', 'a\r\nX-Injected: 1', 'the token is not visible ASCII'],
    ['with a space is no token', 'a b', 'the token is not visible ASCII'],
    ['beyond ASCII is no token', 'a\u00e9', 'the token is not visible ASCII'],
    ['that is empty is no token', '', 'the token is not visible ASCII'],
  ])('%s', async (_name, token, internal) => {
    await using it = await loggingInAt(() => JSON.stringify({ token }));
    expect(await codeOf(await it.gateway.fetch('/api/v1/flow-runs'))).toBe('upstream_credentials_rejected');
    const failed = it.gateway.logs().find(({ msg }) => msg === 'login failed');
    if (internal === null) expect(failed).toBeUndefined();
    else expect(failed).toMatchObject({ internal, reason: 'rejected' });
    expect(it.gateway.simulator.arrivals()).toHaveLength(internal === null ? 1 : 0);
    if (token !== '') expect(it.gateway.logText()).not.toContain(token);
    expect((await it.gateway.fetch('/_gateway/whoami')).status).toBe(200);
  });

  test('in a response of a megabyte is not read, and that says nothing about the password', async () => {
    await using it = await loggingInAt(() => JSON.stringify({ token: 'fake-token', padding: 'a'.repeat(1_000_000) }));
    expect(await codeOf(await it.gateway.fetch('/api/v1/flow-runs'))).toBe('upstream_unreachable');
    const internal = 'the response broke off or is too large';
    expect(it.gateway.logs().find(({ msg }) => msg === 'login failed')).toMatchObject({
      internal,
      reason: 'unreachable',
    });
  });

  test('that Patchworks never accepts causes at most one login in ten seconds, whatever callers send', async () => {
    await using it = await loggingInAt((login) => `{"token":"fake-token-${login}","expires_in":1}`);
    for (let second = 0; second < 60; second += 1) {
      for (let each = 0; each < 3; each += 1) {
        expect(await codeOf(await it.gateway.fetch('/api/v1/flow-runs'))).toBe('upstream_credentials_rejected');
      }
      it.clock.advance(1_000);
      expect(it.logins()).toBeLessThanOrEqual(1 + second / 10);
    }
    expect(it.logins()).toBeGreaterThan(1);
  });
});
