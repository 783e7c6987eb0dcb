import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { failure, issued, loginServer, quiet, token } from '../../../test/support/login-server.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import type { Meter } from '../../ports.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a login', () => {
  test('is made once for all requests that wait for it', async () => {
    const { logins, credential } = loginServer(new ManualClock());
    const waiting = Promise.all([credential.issue(), credential.issue(), credential.issue()]);
    expect(logins).toHaveLength(1);
    logins[0]!(token('t1'));
    const results = await waiting;
    expect(new Set(results.map((result) => issued(result).value))).toEqual(new Set(['Bearer t1']));
    expect(logins).toHaveLength(1);
  });

  test('that fails fails once for all requests that wait for it', async () => {
    const { logins, credential } = loginServer(new ManualClock());
    const waiting = Promise.all([credential.issue(), credential.issue(), credential.issue()]);
    logins[0]!(failure('rejected'));
    expect(await waiting).toEqual(Array(3).fill({ kind: 'unavailable', reason: 'rejected', retryAfterMs: 10_000 }));
    expect(logins).toHaveLength(1);
  });

  test('is renewed before its token expires, while requests continue with the old one', async () => {
    const clock = new ManualClock();
    const { logins, credential, issueWith } = loginServer(clock);
    await issueWith(token('t1', 100_000));
    clock.advance(79_000);
    expect(logins).toHaveLength(1);
    clock.advance(2_000);
    expect(logins).toHaveLength(2);
    expect(issued(await credential.issue()).value).toBe('Bearer t1');
    logins[1]!(token('t2', 100_000));
    await settled();
    expect(issued(await credential.issue()).value).toBe('Bearer t2');
  });

  test('that fails to renew is tried again while the old token is valid, and backs off after it expired', async () => {
    const clock = new ManualClock();
    const { logins, credential, issueWith } = loginServer(clock);
    await issueWith(token('t1', 100_000));
    clock.advance(80_000);
    logins[1]!(failure('unreachable'));
    await settled();
    expect(issued(await credential.issue()).value).toBe('Bearer t1');
    clock.advance(10_000);
    expect(logins).toHaveLength(3);
    clock.advance(20_000);
    logins[2]!(failure('unreachable'));
    await settled();
    expect(credential.issue()).toMatchObject({ kind: 'unavailable', reason: 'unreachable' });
    expect(logins).toHaveLength(3);
    clock.advance(20_000);
    void credential.issue();
    expect(logins).toHaveLength(4);
  });

  test('that keeps failing backs off from 10 s to 5 minutes, doubling each time', async () => {
    const clock = new ManualClock();
    const { credential, issueWith } = loginServer(clock);
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      const result = await issueWith(failure('unreachable'));
      if (result.kind === 'issued') throw new Error('there is no token');
      waits.push(result.retryAfterMs / 1_000);
      clock.advance(result.retryAfterMs - 1);
      expect(credential.issue()).toMatchObject({ kind: 'unavailable', retryAfterMs: 1 });
      clock.advance(1);
    }
    expect(waits).toEqual([10, 20, 40, 80, 160, 300, 300, 300, 300, 300]);
    await issueWith(token('t1', 60_000));
    clock.advance(60_001);
    expect(await issueWith(failure('unreachable'))).toMatchObject({ retryAfterMs: 10_000 });
  });

  test('is tried no sooner than the identity host allows', async () => {
    const { issueWith } = loginServer(new ManualClock());
    expect(await issueWith(failure('unreachable', 60_000))).toMatchObject({
      kind: 'unavailable',
      retryAfterMs: 60_000,
    });
  });

  test('is made anew after a 401, once for each generation', async () => {
    const { logins, credential, issueWith } = loginServer(new ManualClock());
    const old = issued(await issueWith(token('t1')));
    credential.accepted();
    credential.rejected(old.generation);
    const fresh = issued(await issueWith(token('t2')));
    // A slower request reports the token that was replaced in the meantime.
    credential.rejected(old.generation);
    expect(issued(await credential.issue())).toEqual(fresh);
    expect(logins).toHaveLength(2);
  });

  test('whose new tokens are rejected too is not made for every request', async () => {
    const clock = new ManualClock();
    const { logins, credential, issueWith } = loginServer(clock);
    for (const name of ['t1', 't2']) {
      credential.rejected(issued(await issueWith(token(name))).generation);
      expect(credential.issue()).toMatchObject({ kind: 'unavailable', reason: 'rejected', retryAfterMs: 10_000 });
      clock.advance(10_000);
    }
    expect(logins).toHaveLength(2);
    credential.rejected(issued(await issueWith(token('t3'))).generation);
    // From the second rejected token on the wait is doubled.
    expect(credential.issue()).toMatchObject({ kind: 'unavailable', reason: 'rejected', retryAfterMs: 20_000 });
  });

  test('replaces a token that worked at once, and the next one after two intervals', async () => {
    const clock = new ManualClock();
    const { logins, credential, issueWith } = loginServer(clock);
    for (const name of ['t1', 't2']) {
      const { generation } = issued(await issueWith(token(name)));
      credential.accepted();
      credential.rejected(generation);
    }
    expect(logins).toHaveLength(2);
    expect(credential.issue()).toMatchObject({ kind: 'unavailable', retryAfterMs: 10_000 });
    expect(credential.status()).toMatchObject({ backoffMs: 10_000, reason: 'rejected' });
  });

  const event = fc.oneof(
    fc.record({ do: fc.constant('request' as const) }),
    fc.record({ do: fc.constantFrom('rejected', 'accepted', 'failed', 'unreachable', 'short') }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 15_000 }) }),
  );

  test('is made at most once in ten seconds, and once more for a token that worked, in any order of events', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 80 }), async (events) => {
        const clock = new ManualClock();
        const { logins, credential } = loginServer(clock);
        const sentAt: number[] = [];
        let accepted = false;
        let next = token('t', 60_000);
        for (const each of events) {
          if ('ms' in each) clock.advance(each.ms);
          else if (each.do === 'accepted') accepted = true;
          else if (each.do === 'failed') next = failure('rejected');
          else if (each.do === 'unreachable') next = failure('unreachable');
          else if (each.do === 'short') next = token('t', 60_000);
          const result = credential.issue();
          while (sentAt.length < logins.length) {
            sentAt.push(clock.monotonic());
            logins[sentAt.length - 1]!(next);
            await settled();
          }
          const given = await result;
          if (given.kind === 'issued' && each.do === 'accepted') credential.accepted();
          if (given.kind === 'issued' && each.do === 'rejected') credential.rejected(given.credential.generation);
        }
        for (let i = 0; i < sentAt.length; i += 1) {
          for (let j = i + 1; j < sentAt.length; j += 1) {
            const allowed = Math.ceil((sentAt[j]! - sentAt[i]! + 1) / 10_000) + (accepted ? 1 : 0);
            expect(j - i + 1).toBeLessThanOrEqual(allowed);
          }
        }
        credential.close();
      }),
    );
  });

  test('that got no slot is tried again as soon as there may be one, and does not lengthen the backoff', async () => {
    const clock = new ManualClock();
    const { logins, credential, issueWith } = loginServer(clock);
    for (let turn = 1; turn <= 5; turn++) {
      const result = await issueWith(failure('throttled', 700));
      expect(result).toMatchObject({ kind: 'unavailable', reason: 'throttled', retryAfterMs: 700 });
      expect(credential.issue()).toMatchObject({ kind: 'unavailable', reason: 'throttled' });
      expect([logins.length, credential.status().failing]).toEqual([turn, true]);
      clock.advance(701);
    }
    expect(await issueWith(failure('unreachable'))).toMatchObject({ kind: 'unavailable', retryAfterMs: 10_000 });
    clock.advance(10_001);
    await issueWith(failure('throttled'));
    clock.advance(251);
    expect(await issueWith(failure('unreachable'))).toMatchObject({ kind: 'unavailable', retryAfterMs: 20_000 });
  });

  test('is failing from the second rejected token or a failed login until one works, not at the first', async () => {
    const clock = new ManualClock();
    const { credential, issueWith } = loginServer(clock);
    expect(credential.status().failing).toBe(false);
    for (const rejected of [1, 2]) {
      credential.rejected(issued(await issueWith(token(`t${rejected}`))).generation);
      expect(credential.status().failing).toBe(rejected > 1);
      clock.advance(10_000);
    }
    clock.advance(60_000);
    await issueWith(failure('unreachable'));
    credential.accepted();
    expect(credential.status().failing).toBe(true);
    clock.advance(60_000);
    await issueWith(token('t3'));
    expect(credential.status().failing).toBe(false);
  });

  test('has a status with the life of its token, or with its backoff and the reason', async () => {
    const clock = new ManualClock();
    const { credential, issueWith } = loginServer(clock);
    expect(credential.status()).toEqual({ failing: false, backoffMs: 0, reason: null, expiresInMs: null });
    await issueWith(failure('rejected'));
    expect(credential.status()).toEqual({ failing: true, backoffMs: 10_000, reason: 'rejected', expiresInMs: null });
    clock.advance(10_000);
    await issueWith(token('t1', 100_000));
    clock.advance(1_000);
    expect(credential.status()).toEqual({ failing: false, backoffMs: 0, reason: null, expiresInMs: 99_000 });
  });

  test('leaves no timer when it is closed, and neither timer nor metric when its login ends later', async () => {
    const clock = new ManualClock();
    const measured: string[] = [];
    const meter: Meter = {
      ...quiet,
      credentialRefresh: (_account, _credential, result) => void measured.push(result),
      credentialExpiry: () => void measured.push('expiry'),
    };
    const { logins, credential, issueWith } = loginServer(clock, meter);
    await issueWith(token('t1', 100_000));
    expect([clock.pending, measured]).toEqual([1, ['ok', 'expiry']]);
    clock.advance(80_000);
    credential.close();
    logins[1]!(token('t2', 100_000));
    await settled();
    expect([clock.pending, measured]).toEqual([0, ['ok', 'expiry']]);
  });
});
