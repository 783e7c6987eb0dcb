import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import { createLoginBackoff } from './login-backoff.ts';
import type { FailedLogin, LoginOutcome } from './login-request.ts';
import type { Credential, CredentialValue, Grant } from './pool.ts';

export interface LoginCredentialOptions {
  readonly id: string;
  readonly account: string;
  /** Asks the identity host for a token. Never throws. */
  readonly logIn: () => Promise<LoginOutcome>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** Receives each new token, for the redaction of log lines. */
  readonly onToken: (token: string) => void;
}

/** Renewal begins at this share of a token's life, so that a failing identity host has a fifth of it to recover. */
const RENEW_AT = 0.8;
/** A timer of Node takes 31 bits. A token that lives longer is renewed earlier, which does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** `Bearer <token>`. The token is renewed ahead of its expiry, and one login at a time serves all requests that wait for it. */
export function loginCredential(options: LoginCredentialOptions): Credential {
  const { id, account, clock, log, meter } = options;
  const backoff = createLoginBackoff(clock);
  let token: { readonly value: CredentialValue; readonly expiresAt: MonotonicMs } | null = null;
  let generation = 0;
  let pending: Promise<Grant> | null = null;
  let cancelRenewal: (() => void) | null = null;
  let closed = false;

  const current = (): Grant | null =>
    token === null || token.expiresAt <= clock.monotonic() ? null : { kind: 'granted', value: token.value };

  const renewIn = (ms: number): void => {
    cancelRenewal?.();
    cancelRenewal = clock.after(Math.min(ms, LONGEST_TIMER_MS), () => void logIn());
  };

  const succeeded = (issued: string, lifeMs: number): Grant => {
    backoff.loginSucceeded();
    options.onToken(issued);
    generation += 1;
    const value: CredentialValue = { authorization: `Bearer ${issued}`, credential: id, generation };
    token = { value, expiresAt: (clock.monotonic() + lifeMs) as MonotonicMs };
    renewIn(lifeMs * RENEW_AT);
    meter.credentialRefresh(account, id, 'ok');
    meter.credentialExpiry(account, id, Math.floor((clock.now() + lifeMs) / 1000));
    log.info({ account, credential: id, lifeSeconds: Math.round(lifeMs / 1000) }, 'logged in');
    return { kind: 'granted', value };
  };

  const failed = (outcome: FailedLogin): Grant => {
    const { why, internal } = outcome;
    const restMs = backoff.loginFailed(outcome);
    meter.credentialRefresh(account, id, why === 'unreachable' ? 'failed' : why);
    log.warn({ account, credential: id, why, restMs, internal }, 'login failed');
    const living = current();
    if (living === null) return { kind: 'none', why, retryAfterMs: restMs };
    // The old token still works: requests go on with it, and the renewal is tried again.
    renewIn(restMs);
    return living;
  };

  const logIn = (): Promise<Grant> => {
    pending ??= options.logIn().then((outcome) => {
      pending = null;
      // A reload has removed the credential meanwhile, and its metrics with it.
      if (closed) return { kind: 'none', why: 'unreachable', retryAfterMs: 0 };
      return outcome.kind === 'token' ? succeeded(outcome.token, outcome.lifeMs) : failed(outcome);
    });
    return pending;
  };

  return {
    id,
    grant() {
      const living = current();
      if (living !== null) return living;
      if (pending !== null) return pending;
      const waiting = backoff.waiting();
      return waiting === null ? logIn() : { kind: 'none', why: waiting.why, retryAfterMs: waiting.ms };
    },
    rejected(rejectedGeneration) {
      if (token?.value.generation !== rejectedGeneration) return;
      token = null;
      cancelRenewal?.();
      const restMs = backoff.tokenRejected();
      log.warn({ account, credential: id, restMs }, 'upstream rejected the token');
    },
    accepted: () => backoff.tokenAccepted(),
    failing: () => backoff.failing(),
    status() {
      const waiting = backoff.waiting();
      const leftMs = token === null ? 0 : token.expiresAt - clock.monotonic();
      return {
        // A token that still lives is used, whatever became of its renewal.
        restsForMs: leftMs > 0 ? 0 : (waiting?.ms ?? 0),
        why: waiting?.why ?? null,
        expiresInMs: leftMs > 0 ? leftMs : null,
      };
    },
    close() {
      closed = true;
      cancelRenewal?.();
    },
  };
}
