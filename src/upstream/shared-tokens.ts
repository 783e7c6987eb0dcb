import { randomUUID } from 'node:crypto';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import type { LoginOutcome } from './login-call.ts';
import { FIRST_REST_MS, restOf } from './rest.ts';
import type { NewToken, SharedLogin } from './shared-login.ts';
import { type IssuedToken, newlyIssued, type Obtained, type TokenSource, type Unwanted } from './token-source.ts';

/** Whoever logs in says so this often; three of it unheard and another takes over. */
const KEEP_MS = 1_000;
/** Whoever waits looks after it this often, less up to half by chance, should the word of its end be lost. */
const LOOK_MS = 500;
/** A login takes 30 s at most: 15 for its headers, 15 for its body. */
const LONGEST_WAIT_MS = 35_000;

/** A token that this replica knows, from wherever: what it can tell others of. */
interface Known {
  readonly id: string;
  readonly token: string;
  readonly begunAt: MonotonicMs;
  readonly lifeMs: number;
}

/**
 * One login for all replicas: the first to ask makes it, the others wait for its token. Whoever can not ask makes one of its
 * own, and when the others can be reached again the token whose login began last is everybody's.
 */
export function sharedTokens(options: {
  readonly shared: SharedLogin;
  readonly login: () => Promise<LoginOutcome>;
  readonly clock: Clock;
  readonly random: () => number;
}): TokenSource {
  const { shared, login, clock, random } = options;
  let latest: Known | null = null;
  let refused: string | null = null;
  let tell: (issued: IssuedToken) => void = () => {};
  /** Of an attempt that waits for another replica's. */
  let wake: () => void = () => {};
  /** How often there was news: what came while this replica asked is not waited for. */
  let news = 0;
  let closed = false;

  const taken = (issued: IssuedToken): IssuedToken => {
    const { id, token, lifeMs, leftMs } = issued;
    latest = { id, token, lifeMs, begunAt: (clock.monotonic() + leftMs - lifeMs) as MonotonicMs };
    return issued;
  };

  const put = async (known: Known, begun: NewToken['begun']): Promise<IssuedToken | null> => {
    const { id, token, lifeMs } = known;
    const newer = await shared.store({ id, token, lifeMs, begun });
    // What upstream refused is no better for being newer.
    return newer !== null && newer.id !== refused ? newer : null;
  };

  const agree = async (): Promise<void> => {
    const known = latest;
    if (known === null || known.begunAt + known.lifeMs <= clock.monotonic()) {
      const issued = await shared.look(refused);
      // Meanwhile it may have come by one itself.
      if (issued !== null && latest === known) tell(taken(issued));
      return;
    }
    const newer = await put(known, { agoMs: clock.monotonic() - known.begunAt });
    if (newer !== null && latest === known) tell(taken(newer));
  };

  shared.onNews(() => {
    news += 1;
    wake();
    void agree();
  });

  const logIn = async (claim: { attempt: string; at: number } | null, failures: number): Promise<Obtained> => {
    const begunAt = clock.monotonic();
    const stop = claim === null ? () => {} : every(clock, KEEP_MS, () => shared.keep(claim.attempt));
    const outcome = await login().finally(stop);
    if (outcome.kind === 'failed') {
      const rest = claim === null ? null : await shared.fail(claim.attempt, outcome, failures);
      const { why, internal } = outcome;
      return { kind: 'failed', why, internal, ...(rest ?? restOf(outcome, failures)), from: 'login' };
    }
    const issued = newlyIssued(randomUUID(), outcome);
    const own: Known = { id: issued.id, token: outcome.token, lifeMs: outcome.lifeMs, begunAt };
    latest = own;
    const newer = await put(own, claim ?? { agoMs: clock.monotonic() - begunAt });
    // It took so long that another replica took over: all have the same, or one would be refused without the others' knowing.
    return newer === null
      ? { kind: 'token', issued, from: 'login' }
      : { kind: 'token', issued: taken(newer), from: 'others' };
  };

  /** Until the other replica's attempt may have ended. */
  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      const cancel = clock.after(LOOK_MS * (1 - random() / 2), () => wake());
      wake = () => {
        cancel();
        wake = () => {};
        resolve();
      };
    });

  const obtain = async (unwanted: Unwanted | null, before: number): Promise<Obtained> => {
    const attempt = randomUUID();
    const until = clock.monotonic() + LONGEST_WAIT_MS;
    const failed = (internal: string): Obtained => {
      const nobody = { kind: 'failed', why: 'unreachable', from: 'others' } as const;
      return { ...nobody, restMs: FIRST_REST_MS, failures: before + 1, internal };
    };
    while (!closed) {
      const seen = news;
      const claimed = await shared.claim(attempt, unwanted);
      switch (claimed.kind) {
        case 'token':
          return { kind: 'token', issued: taken(claimed.issued), from: 'others' };
        case 'ours':
          return logIn({ attempt, at: claimed.at }, before);
        case 'alone':
          return logIn(null, before);
        case 'resting': {
          const { why, restMs, failures } = claimed;
          return {
            kind: 'failed',
            why,
            restMs,
            failures,
            from: 'others',
            internal: 'another replica failed to log in',
          };
        }
        case 'theirs':
          if (clock.monotonic() >= until) return failed('another replica does not come to an end with its login');
          if (news === seen) await pause();
      }
    }
    return failed('the gateway is closing');
  };

  return {
    obtain,
    refused: (id) => {
      refused = id;
      if (latest?.id === id) latest = null;
    },
    accepted: () => shared.accepted(),
    onOthers: (run) => {
      tell = run;
    },
    close: () => {
      closed = true;
      wake();
      shared.close();
    },
  };
}
