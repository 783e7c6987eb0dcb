import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { Log, Meter } from '../ports.ts';
import { Secret } from '../secret.ts';
import { apiKeyCredential, type Credential, createCredentialPool, type Grant, type Held } from './credentials.ts';
import { loginCredential } from './login.ts';
import type { LoginOutcome } from './login-call.ts';
import { ownTokens } from './token-source.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const log = quiet as Log;
const meter = quiet as Meter;

/** An identity host whose answers a test writes down beforehand, or gives by hand. */
function identityHost(clock: ManualClock) {
  const calls: ((outcome: LoginOutcome) => void)[] = [];
  const credential = loginCredential({
    id: 'spare',
    account: 'main',
    clock,
    log,
    meter,
    source: ownTokens(() => new Promise((resolve) => calls.push(resolve))),
    onToken: () => {},
  });
  return { calls, credential };
}
const token = (text: string, lifeMs = 1_000_000): LoginOutcome => ({ kind: 'token', token: text, lifeMs });
const failure = (why: 'rejected' | 'unreachable' | 'throttled'): LoginOutcome => ({
  kind: 'failed',
  why,
  retryAfterMs: 0,
  internal: '',
});
const heldBy = (grant: Grant): Held => {
  if (grant.kind !== 'held') throw new Error(`no credential: ${grant.why}`);
  return grant.held;
};
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a login', () => {
  test('is made once for all who wait for it', async () => {
    const { calls, credential } = identityHost(new ManualClock());
    const waiting = Promise.all([credential.grant(), credential.grant(), credential.grant()]);
    expect(calls).toHaveLength(1);
    calls[0]!(token('t1'));
    const grants = await waiting;
    expect(new Set(grants.map((grant) => heldBy(grant).authorization))).toEqual(new Set(['Bearer t1']));
    expect(calls).toHaveLength(1);
  });

  test('is renewed before its token expires, while requests go on with the old one', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const first = credential.grant();
    calls[0]!(token('t1', 100_000));
    await first;
    clock.advance(79_000);
    expect(calls).toHaveLength(1);
    clock.advance(2_000);
    expect(calls).toHaveLength(2);
    expect(heldBy(await credential.grant()).authorization).toBe('Bearer t1');
    calls[1]!(token('t2', 100_000));
    await settled();
    expect(heldBy(await credential.grant()).authorization).toBe('Bearer t2');
  });

  test('that fails to renew is tried again while the old token lives, and rests after it died', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const first = credential.grant();
    calls[0]!(token('t1', 100_000));
    await first;
    clock.advance(80_000);
    calls[1]!(failure('unreachable'));
    await settled();
    expect(heldBy(await credential.grant()).authorization).toBe('Bearer t1');
    clock.advance(2_000);
    expect(calls).toHaveLength(3);
    clock.advance(20_000);
    calls[2]!(failure('unreachable'));
    await settled();
    expect(credential.grant()).toMatchObject({ kind: 'none', why: 'unreachable' });
    expect(calls).toHaveLength(3);
    clock.advance(4_000);
    void credential.grant();
    expect(calls).toHaveLength(4);
  });

  test('is made anew after a 401, once for each generation', async () => {
    const { calls, credential } = identityHost(new ManualClock());
    const first = credential.grant();
    calls[0]!(token('t1'));
    const old = heldBy(await first);
    credential.rejected(old.generation);
    const second = credential.grant();
    expect(calls).toHaveLength(2);
    calls[1]!(token('t2'));
    const fresh = heldBy(await second);
    // A slower request comes back with the token that was replaced meanwhile.
    credential.rejected(old.generation);
    expect(heldBy(await credential.grant())).toEqual(fresh);
    expect(calls).toHaveLength(2);
  });

  test('whose fresh tokens are refused too is not made for every request', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    for (const name of ['t1', 't2']) {
      const grant = credential.grant();
      calls.at(-1)!(token(name));
      credential.rejected(heldBy(await grant).generation);
    }
    expect(credential.grant()).toMatchObject({ kind: 'none', why: 'rejected' });
    expect(calls).toHaveLength(2);
    clock.advance(2_001);
    const third = credential.grant();
    calls[2]!(token('t3'));
    heldBy(await third);
    credential.accepted();
    credential.rejected(3);
    void credential.grant();
    expect(calls).toHaveLength(4);
  });

  test('that got no slot is asked for again as soon as there may be one, and does not lengthen the rest', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const logIn = async (outcome: LoginOutcome) => {
      const grant = credential.grant();
      calls.at(-1)!(outcome);
      return grant;
    };
    for (let turn = 1; turn <= 5; turn++) {
      const grant = await logIn({ ...failure('throttled'), retryAfterMs: 700 } as LoginOutcome);
      expect(grant).toMatchObject({ kind: 'none', why: 'throttled', retryAfterMs: 700 });
      expect(credential.grant()).toMatchObject({ kind: 'none', why: 'throttled' });
      expect([calls.length, credential.failing()]).toEqual([turn, true]);
      clock.advance(701);
    }
    expect(await logIn(failure('unreachable'))).toMatchObject({ kind: 'none', retryAfterMs: 2_000 });
    clock.advance(2_001);
    await logIn(failure('throttled'));
    clock.advance(251);
    expect(await logIn(failure('unreachable'))).toMatchObject({ kind: 'none', retryAfterMs: 4_000 });
  });

  test('is failing from the second refused token or a failed login until one works, not at the first', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const logIn = async (outcome: LoginOutcome) => {
      const grant = credential.grant();
      calls.at(-1)!(outcome);
      return grant;
    };
    expect(credential.failing()).toBe(false);
    for (const refused of [1, 2]) {
      credential.rejected(heldBy(await logIn(token(`t${refused}`))).generation);
      expect(credential.failing()).toBe(refused > 1);
    }
    clock.advance(60_000);
    await logIn(failure('unreachable'));
    credential.accepted();
    expect(credential.failing()).toBe(true);
    clock.advance(60_000);
    await logIn(token('t3'));
    expect(credential.failing()).toBe(false);
  });

  test('leaves no timer behind when it is closed', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const first = credential.grant();
    calls[0]!(token('t1'));
    await first;
    expect(clock.pending).toBe(1);
    credential.close();
    expect(clock.pending).toBe(0);
  });
});

describe('a pool of credentials', () => {
  const key = (id: string, clock: ManualClock): Credential =>
    apiKeyCredential({ id, apiKey: new Secret(`fake-${id}`), clock, log });

  test('offers the first, after a 401 the next, and the first again after its rest', async () => {
    const clock = new ManualClock();
    const pool = createCredentialPool([key('primary', clock), key('spare', clock)]);
    const first = heldBy(await pool.grant([]));
    expect(first.authorization).toBe('fake-primary');
    pool.rejected(first);
    expect(heldBy(await pool.grant([first])).authorization).toBe('fake-spare');
    expect(heldBy(await pool.grant([])).authorization).toBe('fake-spare');
    clock.advance(60_001);
    expect(heldBy(await pool.grant([])).authorization).toBe('fake-primary');
  });

  test('a rejected key is failing until it is accepted, also when its rest is over', async () => {
    const clock = new ManualClock();
    const primary = key('primary', clock);
    const pool = createCredentialPool([primary]);
    const held = heldBy(await pool.grant([]));
    expect(primary.failing()).toBe(false);
    pool.rejected(held);
    clock.advance(120_000);
    expect(primary.failing()).toBe(true);
    pool.accepted(held);
    expect(primary.failing()).toBe(false);
  });

  test('never offers one request the same value twice', async () => {
    const clock = new ManualClock();
    const pool = createCredentialPool([key('primary', clock)]);
    const first = heldBy(await pool.grant([]));
    expect(await pool.grant([first])).toMatchObject({ kind: 'none', why: 'rejected' });
  });

  test('offers a fresh login after the old token, and then moves on', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const pool = createCredentialPool([credential, key('fallback', clock)]);
    const tried: Held[] = [];
    for (const name of ['t1', 't2']) {
      const grant = pool.grant(tried);
      calls.at(-1)!(token(name));
      const held = heldBy(await grant);
      expect(held.authorization).toBe(`Bearer ${name}`);
      tried.push(held);
      pool.rejected(held);
    }
    expect(heldBy(await pool.grant(tried)).authorization).toBe('fake-fallback');
    expect(calls).toHaveLength(2);
  });

  test('goes on to the next when a login fails, and says what passes by itself when all fail', async () => {
    const clock = new ManualClock();
    const { calls, credential } = identityHost(clock);
    const pool = createCredentialPool([credential, key('fallback', clock)]);
    const grant = pool.grant([]);
    calls[0]!(failure('unreachable'));
    const fallback = heldBy(await grant);
    expect(fallback.authorization).toBe('fake-fallback');
    pool.rejected(fallback);
    expect(await pool.grant([fallback])).toMatchObject({ kind: 'none', why: 'unreachable' });
  });
});
