import type { Clock, MonotonicMs } from '../clock.ts';
import type { Log, Meter } from '../observe.ts';
import type { Credential, Grant, Held } from './credentials.ts';
import type { LoginOutcome } from './login-call.ts';

export interface LoginSessionOptions {
  readonly id: string;
  readonly account: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** Asks the identity host for a token, and pays for it; never throws. */
  readonly login: () => Promise<LoginOutcome>;
  /** Tells the log's redaction of a new token. */
  readonly onToken: (token: string) => void;
}

/** Renewal begins at this share of a token's life, so that a failing identity host has a fifth of it to recover. */
const RENEW_AT = 0.8;
/** Rest after a failed login, doubled each time. */
const FIRST_REST_MS = 2_000;
const LONGEST_REST_MS = 5 * 60_000;
/** setTimeout takes 31 bits; a longer life is renewed earlier, which does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type State =
  | { readonly kind: 'empty' }
  | { readonly kind: 'token'; readonly held: Held; readonly expiresAt: MonotonicMs };

type Rest = { readonly until: MonotonicMs; readonly why: 'rejected' | 'unreachable' | 'throttled' };

/** `Bearer <token>`, kept alive: renewed ahead of its expiry, one login at a time however many requests wait for it. */
export function loginCredential(options: LoginSessionOptions): Credential {
  const { id, clock, log, meter } = options;
  let state: State = { kind: 'empty' };
  let generation = 0;
  let flight: Promise<Grant> | null = null;
  let rest: Rest | null = null;
  let failures = 0;
  /** Tokens refused in a row. The first gets a fresh one; if that is refused too, logging in again would not help. */
  let refusedInARow = 0;
  let cancelRenewal: (() => void) | null = null;
  let closed = false;

  const current = (): Grant | null => {
    if (state.kind === 'empty' || state.expiresAt <= clock.monotonic()) return null;
    return { kind: 'held', held: state.held };
  };

  const scheduleRenewal = (delayMs: number): void => {
    cancelRenewal?.();
    cancelRenewal = closed ? null : clock.after(Math.min(delayMs, LONGEST_TIMER_MS), () => void refresh());
  };

  const accept = (token: string, lifeMs: number): Grant => {
    generation += 1;
    failures = 0;
    rest = null;
    options.onToken(token);
    const held: Held = { authorization: `Bearer ${token}`, credential: id, generation };
    state = { kind: 'token', held, expiresAt: (clock.monotonic() + lifeMs) as MonotonicMs };
    meter.credentialRefresh(options.account, id, 'ok');
    meter.credentialExpiry(options.account, id, Math.floor((clock.now() + lifeMs) / 1000));
    log.info({ account: options.account, credential: id, lifeSeconds: Math.round(lifeMs / 1000) }, 'logged in');
    scheduleRenewal(lifeMs * RENEW_AT);
    return { kind: 'held', held };
  };

  const decline = (outcome: Exclude<LoginOutcome, { kind: 'token' }>): Grant => {
    const restMs = Math.max(Math.min(FIRST_REST_MS * 2 ** failures, LONGEST_REST_MS), outcome.retryAfterMs);
    failures += 1;
    rest = { until: (clock.monotonic() + restMs) as MonotonicMs, why: outcome.why };
    const asMetric = outcome.why === 'unreachable' ? 'failed' : outcome.why;
    meter.credentialRefresh(options.account, id, asMetric);
    log.warn(
      { account: options.account, credential: id, why: outcome.why, restMs, internal: outcome.internal },
      'login failed',
    );
    // A token that still lives is better than none: renewal is tried again after the rest.
    const living = current();
    if (living === null) return { kind: 'none', why: outcome.why, retryAfterMs: restMs };
    scheduleRenewal(restMs);
    return living;
  };

  const refresh = (): Promise<Grant> => {
    if (flight !== null) return flight;
    flight = options.login().then((outcome) => {
      flight = null;
      return outcome.kind === 'token' ? accept(outcome.token, outcome.lifeMs) : decline(outcome);
    });
    return flight;
  };

  return {
    id,
    grant: () => {
      const living = current();
      if (living !== null) return living;
      if (flight !== null) return flight;
      const restMs = rest === null ? 0 : rest.until - clock.monotonic();
      if (rest !== null && restMs > 0) return { kind: 'none', why: rest.why, retryAfterMs: restMs };
      return refresh();
    },
    rejected: (refused) => {
      if (state.kind !== 'token' || state.held.generation !== refused) return;
      state = { kind: 'empty' };
      cancelRenewal?.();
      refusedInARow += 1;
      const restMs = refusedInARow < 2 ? 0 : Math.min(FIRST_REST_MS * 2 ** (refusedInARow - 2), LONGEST_REST_MS);
      if (restMs > 0) rest = { until: (clock.monotonic() + restMs) as MonotonicMs, why: 'rejected' };
      log.warn({ account: options.account, credential: id, restMs }, 'upstream rejected the token');
    },
    accepted: () => {
      refusedInARow = 0;
    },
    // A single token that was refused says nothing: a fresh one is on its way.
    failing: () => failures > 0 || refusedInARow > 1,
    standing: () => {
      const now = clock.monotonic();
      const living = state.kind === 'token' && state.expiresAt > now;
      const restMs = rest === null ? 0 : Math.max(0, rest.until - now);
      return {
        // A token that still lives is used, whatever became of its renewal.
        restsForMs: living ? 0 : restMs,
        why: restMs > 0 && rest !== null ? rest.why : null,
        expiresInMs: living && state.kind === 'token' ? state.expiresAt - now : null,
      };
    },
    close: () => {
      closed = true;
      cancelRenewal?.();
    },
  };
}
