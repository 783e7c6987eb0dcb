import type { Clock, MonotonicMs } from '../../clock.ts';
import type { FailedLogin } from './login-request.ts';
import type { UnavailableReason } from './pool.ts';

/**
 * Logins of one credential are this far apart, whatever the upstream and the identity host answer: tokens that are rejected or that
 * expire at once cause no more. Replacing a token that the upstream had accepted may use the next interval in advance.
 */
export const LOGIN_INTERVAL_MS = 10_000;
/** The wait after a failed login begins with the interval and is doubled each time, up to a dozen attempts an hour. */
const MAX_BACKOFF_MS = 5 * 60_000;
/** A login without a slot was not sent, so it is tried again as soon as there may be a slot, but not in a loop. */
const NO_SLOT_WAIT_MS = 250;

interface Wait {
  readonly ms: number;
  readonly reason: UnavailableReason;
}

/** When the next login may be tried. */
export interface LoginBackoff {
  /** The wait after a failure: milliseconds until its end, and the reason; null: none. */
  waiting(): Wait | null;
  /** The rest of the interval since the latest login; null: it is over. */
  interval(): Wait | null;
  /** Returns the wait in milliseconds. */
  loginFailed(failed: FailedLogin): number;
  /** The identity host issued a token. */
  loginSucceeded(): void;
  /** The upstream rejected the newest token. Returns the wait in milliseconds. */
  tokenRejected(): number;
  /** The upstream accepted a token. */
  tokenAccepted(): void;
  /** The latest login failed, or more than one token in a row was rejected. */
  failing(): boolean;
}

export function createLoginBackoff(clock: Clock): LoginBackoff {
  let until: { readonly at: MonotonicMs; readonly reason: UnavailableReason } | null = null;
  /** In a row. Logins that were never sent do not count. */
  let failedLogins = 0;
  let rejectedTokens = 0;
  let latestFailed = false;
  let nextIntervalAt = 0;
  /** The newest token has been accepted. */
  let tokenWorked = false;

  const loginSent = (): void => {
    nextIntervalAt = Math.max(nextIntervalAt, clock.monotonic()) + LOGIN_INTERVAL_MS;
    tokenWorked = false;
  };
  const waitFor = (ms: number, reason: UnavailableReason): number => {
    until = { at: (clock.monotonic() + ms) as MonotonicMs, reason };
    return ms;
  };

  return {
    waiting() {
      const ms = until === null ? 0 : until.at - clock.monotonic();
      return until === null || ms <= 0 ? null : { ms, reason: until.reason };
    },
    interval() {
      const inAdvanceMs = tokenWorked ? LOGIN_INTERVAL_MS : 0;
      const ms = nextIntervalAt - inAdvanceMs - clock.monotonic();
      return ms <= 0 ? null : { ms, reason: 'rejected' };
    },
    loginFailed({ reason, retryAfterMs }) {
      latestFailed = true;
      if (reason === 'throttled') return waitFor(Math.max(NO_SLOT_WAIT_MS, retryAfterMs), reason);
      loginSent();
      const ms = Math.max(doubled(failedLogins), retryAfterMs);
      failedLogins += 1;
      return waitFor(ms, reason);
    },
    loginSucceeded() {
      loginSent();
      latestFailed = false;
      failedLogins = 0;
      until = null;
    },
    tokenRejected() {
      rejectedTokens += 1;
      // The first is replaced at once. If the new one is rejected too, another login does not help.
      return rejectedTokens < 2 ? 0 : waitFor(doubled(rejectedTokens - 2), 'rejected');
    },
    tokenAccepted() {
      rejectedTokens = 0;
      tokenWorked = true;
    },
    failing: () => latestFailed || rejectedTokens > 1,
  };
}

function doubled(times: number): number {
  return Math.min(LOGIN_INTERVAL_MS * 2 ** times, MAX_BACKOFF_MS);
}
