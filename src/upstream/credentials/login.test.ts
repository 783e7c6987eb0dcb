import { describe, expect, test } from 'vitest';
import { failure, granted, loginServer, quiet, token } from '../../../test/support/login-server.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import type { Meter } from '../../ports.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a login', () => {
  test('is made once for all who wait for it', async () => {
    const { logins, credential } = loginServer(new ManualClock());
    const waiting = Promise.all([credential.grant(), credential.grant(), credential.grant()]);
    expect(logins).toHaveLength(1);
    logins[0]!(token('t1'));
    const grants = await waiting;
    expect(new Set(grants.map((grant) => granted(grant).authorization))).toEqual(new Set(['Bearer t1']));
    expect(logins).toHaveLength(1);
  });

  test('that fails fails once for all who wait for it', async () => {
    const { logins, credential } = loginServer(new ManualClock());
    const waiting = Promise.all([credential.grant(), credential.grant(), credential.grant()]);
    logins[0]!(failure('rejected'));
    expect(await waiting).toEqual(Array(3).fill({ kind: 'none', why: 'rejected', retryAfterMs: 2_000 }));
    expect(logins).toHaveLength(1);
  });

  test('is renewed before its token expires, while requests go on with the old one', async () => {
    const clock = new ManualClock();
    const { logins, credential, grantWith } = loginServer(clock);
    await grantWith(token('t1', 100_000));
    clock.advance(79_000);
    expect(logins).toHaveLength(1);
    clock.advance(2_000);
    expect(logins).toHaveLength(2);
    expect(granted(await credential.grant()).authorization).toBe('Bearer t1');
    logins[1]!(token('t2', 100_000));
    await settled();
    expect(granted(await credential.grant()).authorization).toBe('Bearer t2');
  });

  test('that fails to renew is tried again while the old token lives, and waits after it died', async () => {
    const clock = new ManualClock();
    const { logins, credential, grantWith } = loginServer(clock);
    await grantWith(token('t1', 100_000));
    clock.advance(80_000);
    logins[1]!(failure('unreachable'));
    await settled();
    expect(granted(await credential.grant()).authorization).toBe('Bearer t1');
    clock.advance(2_000);
    expect(logins).toHaveLength(3);
    clock.advance(20_000);
    logins[2]!(failure('unreachable'));
    await settled();
    expect(credential.grant()).toMatchObject({ kind: 'none', why: 'unreachable' });
    expect(logins).toHaveLength(3);
    clock.advance(4_000);
    void credential.grant();
    expect(logins).toHaveLength(4);
  });

  test('that fails again and again is tried after 2 s, 4 s, 8 s and so on, and every 5 minutes at last', async () => {
    const clock = new ManualClock();
    const { credential, grantWith } = loginServer(clock);
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      const grant = await grantWith(failure('unreachable'));
      if (grant.kind === 'granted') throw new Error('there is no token');
      waits.push(grant.retryAfterMs / 1_000);
      clock.advance(grant.retryAfterMs - 1);
      expect(credential.grant()).toMatchObject({ kind: 'none', retryAfterMs: 1 });
      clock.advance(1);
    }
    expect(waits).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    await grantWith(token('t1', 1_000));
    clock.advance(1_001);
    expect(await grantWith(failure('unreachable'))).toMatchObject({ retryAfterMs: 2_000 });
  });

  test('is tried no sooner than the identity host has asked for', async () => {
    const { grantWith } = loginServer(new ManualClock());
    expect(await grantWith(failure('unreachable', 60_000))).toMatchObject({ kind: 'none', retryAfterMs: 60_000 });
  });

  test('is made anew after a 401, once for each generation', async () => {
    const { logins, credential, grantWith } = loginServer(new ManualClock());
    const old = granted(await grantWith(token('t1')));
    credential.rejected(old.generation);
    const fresh = granted(await grantWith(token('t2')));
    // A slower request comes back with the token that was replaced meanwhile.
    credential.rejected(old.generation);
    expect(granted(await credential.grant())).toEqual(fresh);
    expect(logins).toHaveLength(2);
  });

  test('whose fresh tokens are refused too is not made for every request', async () => {
    const clock = new ManualClock();
    const { logins, credential, grantWith } = loginServer(clock);
    for (const name of ['t1', 't2']) credential.rejected(granted(await grantWith(token(name))).generation);
    expect(credential.grant()).toMatchObject({ kind: 'none', why: 'rejected' });
    expect(logins).toHaveLength(2);
    clock.advance(2_001);
    const third = granted(await grantWith(token('t3')));
    credential.accepted();
    credential.rejected(third.generation);
    void credential.grant();
    expect(logins).toHaveLength(4);
  });

  test('that got no slot is tried again as soon as there may be one, and does not lengthen the wait', async () => {
    const clock = new ManualClock();
    const { logins, credential, grantWith } = loginServer(clock);
    for (let turn = 1; turn <= 5; turn++) {
      const grant = await grantWith(failure('throttled', 700));
      expect(grant).toMatchObject({ kind: 'none', why: 'throttled', retryAfterMs: 700 });
      expect(credential.grant()).toMatchObject({ kind: 'none', why: 'throttled' });
      expect([logins.length, credential.failing()]).toEqual([turn, true]);
      clock.advance(701);
    }
    expect(await grantWith(failure('unreachable'))).toMatchObject({ kind: 'none', retryAfterMs: 2_000 });
    clock.advance(2_001);
    await grantWith(failure('throttled'));
    clock.advance(251);
    expect(await grantWith(failure('unreachable'))).toMatchObject({ kind: 'none', retryAfterMs: 4_000 });
  });

  test('is failing from the second refused token or a failed login until one works, not at the first', async () => {
    const clock = new ManualClock();
    const { credential, grantWith } = loginServer(clock);
    expect(credential.failing()).toBe(false);
    for (const refused of [1, 2]) {
      credential.rejected(granted(await grantWith(token(`t${refused}`))).generation);
      expect(credential.failing()).toBe(refused > 1);
    }
    clock.advance(60_000);
    await grantWith(failure('unreachable'));
    credential.accepted();
    expect(credential.failing()).toBe(true);
    clock.advance(60_000);
    await grantWith(token('t3'));
    expect(credential.failing()).toBe(false);
  });

  test('shows how long its token lives, and while it has none how long it waits and why', async () => {
    const clock = new ManualClock();
    const { credential, grantWith } = loginServer(clock);
    expect(credential.status()).toEqual({ restsForMs: 0, why: null, expiresInMs: null });
    await grantWith(failure('rejected'));
    expect(credential.status()).toEqual({ restsForMs: 2_000, why: 'rejected', expiresInMs: null });
    clock.advance(2_000);
    await grantWith(token('t1', 100_000));
    clock.advance(1_000);
    expect(credential.status()).toEqual({ restsForMs: 0, why: null, expiresInMs: 99_000 });
  });

  test('leaves no timer behind when it is closed, and none and no metric when a login ends after that', async () => {
    const clock = new ManualClock();
    const measured: string[] = [];
    const meter: Meter = {
      ...quiet,
      credentialRefresh: (_account, _credential, outcome) => void measured.push(outcome),
      credentialExpiry: () => void measured.push('expiry'),
    };
    const { logins, credential, grantWith } = loginServer(clock, meter);
    await grantWith(token('t1', 100_000));
    expect([clock.pending, measured]).toEqual([1, ['ok', 'expiry']]);
    clock.advance(80_000);
    credential.close();
    logins[1]!(token('t2', 100_000));
    await settled();
    expect([clock.pending, measured]).toEqual([0, ['ok', 'expiry']]);
  });
});
