import { expect, test } from 'vitest';
import { failure, granted, loginServer, quiet, token } from '../../../test/support/login-server.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { Secret } from '../../secret.ts';
import { apiKeyCredential } from './api-key.ts';
import { type Credential, type CredentialValue, createCredentialPool } from './pool.ts';

const key = (id: string, clock: ManualClock): Credential =>
  apiKeyCredential({ id, apiKey: new Secret(`fake-${id}`), clock, log: quiet });

test('the first is used, after a 401 the next, and the first again after a minute', async () => {
  const clock = new ManualClock();
  const pool = createCredentialPool([key('primary', clock), key('spare', clock)]);
  const first = granted(await pool.grant([], null));
  expect(first.authorization).toBe('fake-primary');
  pool.rejected(first);
  expect(granted(await pool.grant([first], null)).authorization).toBe('fake-spare');
  expect(granted(await pool.grant([], null)).authorization).toBe('fake-spare');
  clock.advance(60_001);
  expect(granted(await pool.grant([], null)).authorization).toBe('fake-primary');
});

test('a rejected key is failing until it is accepted, also after its minute', async () => {
  const clock = new ManualClock();
  const primary = key('primary', clock);
  const pool = createCredentialPool([primary]);
  const value = granted(await pool.grant([], null));
  expect(primary.failing()).toBe(false);
  pool.rejected(value);
  clock.advance(120_000);
  expect(primary.failing()).toBe(true);
  pool.accepted(value);
  expect(primary.failing()).toBe(false);
});

test('one request never gets the same value twice', async () => {
  const pool = createCredentialPool([key('primary', new ManualClock())]);
  const first = granted(await pool.grant([], null));
  expect(await pool.grant([first], null)).toMatchObject({ kind: 'none', why: 'rejected' });
});

test('a request gets a fresh token after the old one, and then the next credential', async () => {
  const clock = new ManualClock();
  const { logins, credential } = loginServer(clock);
  const pool = createCredentialPool([credential, key('fallback', clock)]);
  const tried: CredentialValue[] = [];
  for (const name of ['t1', 't2']) {
    const grant = pool.grant(tried, null);
    logins.at(-1)!(token(name));
    const value = granted(await grant);
    expect(value.authorization).toBe(`Bearer ${name}`);
    tried.push(value);
    pool.rejected(value);
  }
  expect(granted(await pool.grant(tried, null)).authorization).toBe('fake-fallback');
  expect(logins).toHaveLength(2);
});

test('a login that fails gives way to the next credential, and the reason that passes by itself is given when all fail', async () => {
  const clock = new ManualClock();
  const { logins, credential } = loginServer(clock);
  const pool = createCredentialPool([credential, key('fallback', clock)]);
  const grant = pool.grant([], null);
  logins[0]!(failure('unreachable'));
  const fallback = granted(await grant);
  expect(fallback.authorization).toBe('fake-fallback');
  pool.rejected(fallback);
  expect(await pool.grant([fallback], null)).toMatchObject({ kind: 'none', why: 'unreachable' });
});
