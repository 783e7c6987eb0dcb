import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import type { FailedLogin, LoginResult } from './login-request.ts';
import type { Credential, CredentialResult, IssuedCredential, UnavailableReason } from './pool.ts';

/** Renewal begins at this share of a token's life, so that a failing identity host has a fifth of it to recover. */
const RENEW_AT = 0.8;

/** `Bearer <token>`. The token is renewed ahead of its expiry, and one login at a time serves all requests that wait for it. */
export function loginCredential(options: {
  readonly id: string;
  readonly account: string;
  /** Asks the identity host for a token. Never throws. */
  readonly logIn: () => Promise<LoginResult>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** Receives each new token, for the redaction of log lines. */
  readonly onToken: (token: string) => void;
}): Credential {
  const { id, account, clock, log, meter } = options;
  const backoff = createBackoff(clock);
  let token: { readonly credential: IssuedCredential; readonly expiresAt: MonotonicMs } | null = null;
  let generation = 0;
  let pending: Promise<CredentialResult> | null = null;
  let cancelRenewal: (() => void) | null = null;
  let closed = false;

  const current = (): CredentialResult | null =>
    token === null || token.expiresAt <= clock.monotonic() ? null : { kind: 'issued', credential: token.credential };

  const renewIn = (ms: number): void => {
    cancelRenewal?.();
    cancelRenewal = clock.after(ms, () => void logIn());
  };

  const succeeded = (newToken: string, lifeMs: number): CredentialResult => {
    backoff.loginSucceeded();
    options.onToken(newToken);
    generation += 1;
    const value = `Bearer ${newToken}`;
    const credential: IssuedCredential = { id, carrier: 'header', name: 'Authorization', value, generation };
    token = { credential, expiresAt: (clock.monotonic() + lifeMs) as MonotonicMs };
    renewIn(lifeMs * RENEW_AT);
    meter.credentialRefresh(account, id, 'ok');
    meter.credentialExpiry(account, id, Math.floor((clock.now() + lifeMs) / 1000));
    log.info({ account, credential: id, lifeSeconds: Math.round(lifeMs / 1000) }, 'logged in');
    return { kind: 'issued', credential };
  };

  const failed = (login: FailedLogin): CredentialResult => {
    const { reason, internal } = login;
    const backoffMs = backoff.loginFailed(login);
    meter.credentialRefresh(account, id, reason === 'unreachable' ? 'failed' : reason);
    log.warn({ account, credential: id, reason, backoffMs, internal }, 'login failed');
    const valid = current();
    if (valid === null) return { kind: 'unavailable', reason, retryAfterMs: backoffMs };
    // Requests continue with the old token while the renewal is tried again.
    renewIn(backoffMs);
    return valid;
  };

  const logIn = (): Promise<CredentialResult> => {
    pending ??= options.logIn().then((login) => {
      pending = null;
      // A reload has removed the credential, and its metrics with it.
      if (closed) return { kind: 'unavailable', reason: 'unreachable', retryAfterMs: 0 };
      return login.kind === 'token' ? succeeded(login.token, login.lifeMs) : failed(login);
    });
    return pending;
  };

  return {
    id,
    issue() {
      const valid = current();
      if (valid !== null) return valid;
      if (pending !== null) return pending;
      const waiting = backoff.waiting() ?? backoff.interval();
      return waiting === null ? logIn() : { kind: 'unavailable', reason: waiting.reason, retryAfterMs: waiting.ms };
    },
    rejected(rejectedGeneration) {
      if (token?.credential.generation !== rejectedGeneration) return;
      token = null;
      cancelRenewal?.();
      const backoffMs = backoff.tokenRejected();
      log.warn({ account, credential: id, backoffMs }, 'upstream rejected the token');
    },
    accepted: () => backoff.tokenAccepted(),
    status() {
      const leftMs = token === null ? 0 : token.expiresAt - clock.monotonic();
      const waiting = backoff.waiting() ?? (leftMs > 0 ? null : backoff.interval());
      return {
        failing: backoff.failing(),
        // A valid token is used even if its renewal has failed.
        backoffMs: leftMs > 0 ? 0 : (waiting?.ms ?? 0),
        reason: waiting?.reason ?? null,
        expiresInMs: leftMs > 0 ? leftMs : null,
      };
    },
    close() {
      closed = true;
      cancelRenewal?.();
    },
  };
}

/**
 * Logins of one credential are this far apart, whatever the upstream and the identity host answer: tokens that are rejected or that
 * expire at once cause no more. Replacing a token that the upstream had accepted may use the next interval in advance.
 */
const LOGIN_INTERVAL_MS = 10_000;
/** The wait after a failed login begins with the interval and is doubled each time, up to a dozen attempts an hour. */
const MAX_BACKOFF_MS = 5 * 60_000;
/** A login without a slot was not sent, so it is tried again as soon as there may be a slot, but not in a loop. */
const NO_SLOT_WAIT_MS = 250;

interface Wait {
  readonly ms: number;
  readonly reason: UnavailableReason;
}

/** When the next login may be tried. */
function createBackoff(clock: Clock) {
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
    /** The wait after a failure: milliseconds until its end, and the reason; null: none. */
    waiting(): Wait | null {
      const ms = until === null ? 0 : until.at - clock.monotonic();
      return until === null || ms <= 0 ? null : { ms, reason: until.reason };
    },
    /** The rest of the interval since the latest login; null: it is over. */
    interval(): Wait | null {
      const inAdvanceMs = tokenWorked ? LOGIN_INTERVAL_MS : 0;
      const ms = nextIntervalAt - inAdvanceMs - clock.monotonic();
      return ms <= 0 ? null : { ms, reason: 'rejected' };
    },
    /** Returns the wait in milliseconds. */
    loginFailed({ reason, retryAfterMs }: FailedLogin): number {
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
    /** The upstream rejected the newest token. Returns the wait in milliseconds. */
    tokenRejected(): number {
      rejectedTokens += 1;
      // The first is replaced at once. If the new one is rejected too, another login does not help.
      return rejectedTokens < 2 ? 0 : waitFor(doubled(rejectedTokens - 2), 'rejected');
    },
    tokenAccepted() {
      rejectedTokens = 0;
      tokenWorked = true;
    },
    /** The latest login failed, or more than one token in a row was rejected. */
    failing: () => latestFailed || rejectedTokens > 1,
  };
}

function doubled(times: number): number {
  return Math.min(LOGIN_INTERVAL_MS * 2 ** times, MAX_BACKOFF_MS);
}
