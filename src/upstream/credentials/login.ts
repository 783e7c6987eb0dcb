import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import { createLoginBackoff } from './login-backoff.ts';
import type { FailedLogin, LoginResult } from './login-request.ts';
import type { Credential, CredentialResult, IssuedCredential } from './pool.ts';

export interface LoginCredentialOptions {
  readonly id: string;
  readonly account: string;
  /** Asks the identity host for a token. Never throws. */
  readonly logIn: () => Promise<LoginResult>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** Receives each new token, for the redaction of log lines. */
  readonly onToken: (token: string) => void;
}

/** Renewal begins at this share of a token's life, so that a failing identity host has a fifth of it to recover. */
const RENEW_AT = 0.8;

/** `Bearer <token>`. The token is renewed ahead of its expiry, and one login at a time serves all requests that wait for it. */
export function loginCredential(options: LoginCredentialOptions): Credential {
  const { id, account, clock, log, meter } = options;
  const backoff = createLoginBackoff(clock);
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
    failing: () => backoff.failing(),
    status() {
      const leftMs = token === null ? 0 : token.expiresAt - clock.monotonic();
      const waiting = backoff.waiting() ?? (leftMs > 0 ? null : backoff.interval());
      return {
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
