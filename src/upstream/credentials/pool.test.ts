import { expect, test } from 'vitest';
import { failure, issued, loginServer, quiet, token } from '../../../test/support/login-server.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { Secret } from '../../secret.ts';
import { type Credential, createCredentialPool, fixedCredential, type IssuedCredential } from './pool.ts';

const key = (id: string, clock: ManualClock): Credential =>
  fixedCredential({ id, carrier: 'header', name: 'Authorization', value: new Secret(`fake-${id}`), clock, log: quiet });

test('the first credential is used, after a 401 the next one, and after a minute the first again', async () => {
  const clock = new ManualClock();
  const pool = createCredentialPool([key('primary', clock), key('spare', clock)]);
  const first = issued(await pool.issue([], null));
  expect(first.value).toBe('fake-primary');
  pool.rejected(first);
  expect(issued(await pool.issue([first], null)).value).toBe('fake-spare');
  expect(issued(await pool.issue([], null)).value).toBe('fake-spare');
  clock.advance(60_001);
  expect(issued(await pool.issue([], null)).value).toBe('fake-primary');
});

test('a rejected key is failing until it is accepted, also after its minute', async () => {
  const clock = new ManualClock();
  const primary = key('primary', clock);
  const pool = createCredentialPool([primary]);
  const credential = issued(await pool.issue([], null));
  expect(primary.status().failing).toBe(false);
  pool.rejected(credential);
  clock.advance(120_000);
  expect(primary.status().failing).toBe(true);
  pool.accepted(credential);
  expect(primary.status().failing).toBe(false);
});

test('one request never gets the same token or key twice', async () => {
  const pool = createCredentialPool([key('primary', new ManualClock())]);
  const first = issued(await pool.issue([], null));
  expect(await pool.issue([first], null)).toMatchObject({ kind: 'unavailable', reason: 'rejected' });
});

test('a request gets a new token after the old one, and then the next credential', async () => {
  const clock = new ManualClock();
  const { logins, credential } = loginServer(clock);
  const pool = createCredentialPool([credential, key('fallback', clock)]);
  const tried: IssuedCredential[] = [];
  for (const name of ['t1', 't2']) {
    const result = pool.issue(tried, null);
    logins.at(-1)!(token(name));
    const credential = issued(await result);
    expect(credential.value).toBe(`Bearer ${name}`);
    tried.push(credential);
    pool.accepted(credential);
    pool.rejected(credential);
  }
  expect(issued(await pool.issue(tried, null)).value).toBe('fake-fallback');
  expect(logins).toHaveLength(2);
});

test('after a failed login the next credential is used, and a temporary reason is reported when all fail', async () => {
  const clock = new ManualClock();
  const { logins, credential } = loginServer(clock);
  const pool = createCredentialPool([credential, key('fallback', clock)]);
  const result = pool.issue([], null);
  logins[0]!(failure('unreachable'));
  const fallback = issued(await result);
  expect(fallback.value).toBe('fake-fallback');
  pool.rejected(fallback);
  expect(await pool.issue([fallback], null)).toMatchObject({ kind: 'unavailable', reason: 'unreachable' });
});

test('a backoff is known only while every credential is in one, and asking for it starts no login', async () => {
  const clock = new ManualClock();
  const { logins, credential } = loginServer(clock);
  const pool = createCredentialPool([key('primary', clock), credential]);
  pool.rejected(issued(await pool.issue([], null)));
  expect([pool.backoff(), logins.length]).toEqual([null, 0]);
  const result = pool.issue([], null);
  await new Promise((resolve) => setImmediate(resolve));
  logins[0]!(failure('unreachable'));
  await result;
  expect(pool.backoff()).toEqual({ kind: 'unavailable', reason: 'unreachable', retryAfterMs: 10_000 });
  clock.advance(10_000);
  expect(pool.backoff()).toBe(null);
});
