import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { Log, Meter } from '../ports.ts';
import type { Grant } from './credentials.ts';
import { loginCredential } from './login.ts';
import type { LoginOutcome } from './login-call.ts';
import type { Claimed, NewToken, Rest, SharedLogin } from './shared-login.ts';
import { sharedTokens } from './shared-tokens.ts';
import type { IssuedToken } from './token-source.ts';

const quiet = new Proxy({}, { get: () => () => {} }) as Log & Meter;
const settled = () => new Promise((resolve) => setImmediate(resolve));
const HOUR = 3_600_000;
const issued = (id: string, more: Partial<IssuedToken> = {}): IssuedToken => ({
  ...{ id, token: `fake-${id}`, lifeMs: HOUR, leftMs: HOUR, refusals: 0 },
  ...more,
});
const token = (text: string): LoginOutcome => ({ kind: 'token', token: text, lifeMs: HOUR });
const FAILED: LoginOutcome = { kind: 'failed', why: 'unreachable', retryAfterMs: 0, internal: '' };

/** A replica, and all others as a test writes them down: what they say next, and what they were told. */
function replica() {
  const clock = new ManualClock();
  const others = {
    says: { kind: 'alone' } as Claimed,
    newer: null as IssuedToken | null,
    seen: null as IssuedToken | null,
    rest: null as Rest | null,
  };
  const told: string[] = [];
  const stored: NewToken[] = [];
  let news = () => {};
  const shared: SharedLogin = {
    claim: async (_attempt, unwanted) => {
      told.push(`claim ${unwanted === null ? 'any' : `other than ${unwanted.refused ? 'refused' : 'old'}`}`);
      return others.says;
    },
    look: async () => others.seen,
    keep: () => void told.push('keep'),
    store: async (each) => {
      stored.push(each);
      return others.newer;
    },
    fail: async () => others.rest,
    accepted: () => void told.push('accepted'),
    onNews: (run) => {
      news = run;
    },
    close: () => void told.push('close'),
  };
  const calls: ((outcome: LoginOutcome) => void)[] = [];
  const login = () => new Promise<LoginOutcome>((resolve) => calls.push(resolve));
  const source = sharedTokens({ shared, login, clock, random: () => 0 });
  const credential = loginCredential({
    ...{ id: 'login', account: 'main', clock, log: quiet, meter: quiet, source, onToken: () => {} },
  });
  return { clock, others, told, stored, calls, credential, news: () => news() };
}
const bearer = async (grant: Grant | Promise<Grant>): Promise<string> => {
  const got = await grant;
  return got.kind === 'held' ? got.held.authorization : got.why;
};

describe('a replica among others', () => {
  test('waits for whoever logs in, looks after it twice a second, and takes what comes of it', async () => {
    const { clock, others, told, calls, credential } = replica();
    others.says = { kind: 'theirs' };
    const waiting = bearer(credential.grant());
    for (let i = 0; i < 5; i++) {
      await settled();
      clock.advance(500);
    }
    await settled();
    expect([told.length, calls.length]).toEqual([6, 0]);
    others.says = { kind: 'token', issued: issued('theirs') };
    clock.advance(500);
    expect(await waiting).toBe('Bearer fake-theirs');
  });

  test('does not wait to look when it hears of the end, also when it hears of it while it asks', async () => {
    const { others, calls, credential, news } = replica();
    others.says = { kind: 'theirs' };
    const waiting = bearer(credential.grant());
    others.says = { kind: 'token', issued: issued('theirs') };
    news();
    expect(await waiting).toBe('Bearer fake-theirs');
    expect(calls).toHaveLength(0);
  });

  test('gives up on a login of another that does not end, and says when to try again', async () => {
    const { clock, others, calls, credential } = replica();
    others.says = { kind: 'theirs' };
    const waiting = credential.grant();
    for (let i = 0; i < 75; i++) {
      await settled();
      clock.advance(500);
    }
    expect(await waiting).toEqual({ kind: 'none', why: 'unreachable', retryAfterMs: 2_000 });
    expect(calls).toHaveLength(0);
  });

  test('says every second that its login is under way, and no longer when it has ended', async () => {
    const { clock, others, told, stored, calls, credential } = replica();
    others.says = { kind: 'ours', at: 7 };
    const waiting = bearer(credential.grant());
    await settled();
    clock.advance(3_000);
    calls[0]?.(token('fake-own'));
    expect(await waiting).toBe('Bearer fake-own');
    expect(told.filter((each) => each === 'keep')).toHaveLength(3);
    expect(stored).toMatchObject([{ token: 'fake-own', lifeMs: HOUR, begun: { at: 7 } }]);
    credential.close();
    expect(clock.pending).toBe(0);
  });

  test('uses the newer token where another replica took its login over meanwhile', async () => {
    const { others, calls, credential } = replica();
    others.says = { kind: 'ours', at: 7 };
    others.newer = issued('newer');
    const waiting = bearer(credential.grant());
    await settled();
    calls[0]?.(token('fake-own'));
    expect(await waiting).toBe('Bearer fake-newer');
  });

  test('logs in by itself where nobody can be asked, and tells of its token when they are back', async () => {
    const { clock, others, stored, calls, credential, news } = replica();
    const waiting = bearer(credential.grant());
    await settled();
    clock.advance(400);
    calls[0]?.(token('fake-own'));
    expect(await waiting).toBe('Bearer fake-own');
    clock.advance(60_000);
    news();
    await settled();
    expect(stored.map(({ begun }) => begun)).toEqual([{ agoMs: 400 }, { agoMs: 60_400 }]);
    others.newer = issued('newer', { leftMs: HOUR - 5_000 });
    news();
    await settled();
    expect(await bearer(credential.grant())).toBe('Bearer fake-newer');
    expect(calls).toHaveLength(1);
  });

  test('takes what the others have as soon as it hears of it, and never what upstream refused', async () => {
    const { others, told, calls, credential, news } = replica();
    others.seen = issued('t1');
    news();
    await settled();
    const held = await credential.grant();
    if (held.kind !== 'held') throw new Error();
    credential.rejected(held.held.generation);
    others.newer = issued('t1');
    others.seen = issued('t1');
    news();
    await settled();
    others.says = { kind: 'ours', at: 7 };
    const waiting = bearer(credential.grant());
    await settled();
    expect(told.at(-1)).toBe('claim other than refused');
    calls[0]?.(token('fake-own'));
    expect(await waiting).toBe('Bearer fake-own');
  });

  test('renews when a fifth of the life is left, whenever it came by the token', async () => {
    const { clock, others, told, credential } = replica();
    others.says = { kind: 'token', issued: issued('t1', { leftMs: HOUR / 2 }) };
    await credential.grant();
    clock.advance(HOUR * 0.3 - 1_000);
    expect(told).toHaveLength(1);
    clock.advance(2_000);
    expect(told).toEqual(['claim any', 'claim other than old']);
  });

  test('rests as long as the others do, and goes on with a token that still lives', async () => {
    const { clock, others, calls, credential } = replica();
    others.says = { kind: 'resting', why: 'rejected', restMs: 9_000, failures: 3 };
    expect(await credential.grant()).toEqual({ kind: 'none', why: 'rejected', retryAfterMs: 9_000 });
    expect([credential.failing(), calls.length]).toEqual([true, 0]);
    clock.advance(8_000);
    expect(credential.grant()).toEqual({ kind: 'none', why: 'rejected', retryAfterMs: 1_000 });
    clock.advance(1_001);
    // Its own failure now counts on from theirs.
    others.says = { kind: 'alone' };
    const waiting = credential.grant();
    await settled();
    calls[0]?.(FAILED);
    expect(await waiting).toMatchObject({ kind: 'none', retryAfterMs: 16_000 });
  });

  test('that takes a token in need counts those that were refused before it; in need of none it does not', async () => {
    const { others, told, credential, news } = replica();
    const use = async () => {
      const grant = await credential.grant();
      if (grant.kind !== 'held') throw new Error(grant.why);
      return grant.held.generation;
    };
    others.says = { kind: 'token', issued: issued('t2', { refusals: 1 }) };
    credential.rejected(await use());
    expect(credential.grant()).toMatchObject({ kind: 'none', why: 'rejected' });
    others.seen = issued('t3', { refusals: 5 });
    news();
    await settled();
    await use();
    credential.accepted();
    expect(told.at(-1)).toBe('accepted');
    others.newer = issued('t4', { refusals: 5 });
    news();
    await settled();
    others.says = { kind: 'token', issued: issued('t5') };
    credential.rejected(await use());
    expect(await bearer(credential.grant())).toBe('Bearer fake-t5');
  });

  test('that is closed while it waits logs in no more', async () => {
    const { clock, others, calls, told, credential } = replica();
    others.says = { kind: 'theirs' };
    const waiting = credential.grant();
    await settled();
    others.says = { kind: 'alone' };
    credential.close();
    expect(await waiting).toMatchObject({ kind: 'none' });
    expect([calls.length, clock.pending, told.at(-1)]).toEqual([0, 0, 'close']);
  });
});
