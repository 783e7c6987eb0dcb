import type { Clock, MonotonicMs } from '../clock.ts';
import type { Log, Meter } from '../ports.ts';
import type { Credential, Grant, Held } from './credentials.ts';
import { type FailedLogin, restAfter } from './rest.ts';
import type { IssuedToken, Obtained, TokenSource, Unwanted } from './token-source.ts';

export interface LoginSessionOptions {
  readonly id: string;
  readonly account: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly source: TokenSource;
  /** Tells the log's redaction of a new token. */
  readonly onToken: (token: string) => void;
}

/** Renewal begins at this share of a token's life, so that a failing identity host has a fifth of it to recover. */
const RENEW_AT = 0.8;
/** setTimeout takes 31 bits; a longer life is renewed earlier, which does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** A token of another replica may be due for renewal already, and theirs may fail: not in a loop. */
const SOONEST_RENEWAL_MS = 1_000;

type State =
  | { readonly kind: 'empty'; readonly unwanted: Unwanted | null }
  | { readonly kind: 'token'; readonly held: Held; readonly id: string; readonly expiresAt: MonotonicMs };

type Rest = { readonly until: MonotonicMs; readonly why: FailedLogin['why'] };

/** `Bearer <token>`, kept alive: renewed ahead of its expiry, one login at a time however many requests wait for it. */
export function loginCredential(options: LoginSessionOptions): Credential {
  const { id, account, clock, log, meter, source } = options;
  let state: State = { kind: 'empty', unwanted: null };
  let generation = 0;
  let flight: Promise<Grant> | null = null;
  let rest: Rest | null = null;
  /** Logins that failed in a row; those that were never sent do not count. */
  let failures = 0;
  /** The latest attempt came to nothing, for whatever reason. */
  let failed = false;
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

  const accept = (issued: IssuedToken, from: 'login' | 'others'): Grant => {
    failures = 0;
    failed = false;
    rest = null;
    const renewInMs = issued.leftMs - issued.lifeMs * (1 - RENEW_AT);
    scheduleRenewal(from === 'login' ? renewInMs : Math.max(renewInMs, SOONEST_RENEWAL_MS));
    // The same token may come on two ways.
    if (state.kind === 'token' && state.id === issued.id) return { kind: 'held', held: state.held };
    generation += 1;
    options.onToken(issued.token);
    const held: Held = { authorization: `Bearer ${issued.token}`, credential: id, generation };
    const { leftMs } = issued;
    state = { kind: 'token', held, id: issued.id, expiresAt: (clock.monotonic() + leftMs) as MonotonicMs };
    meter.credentialRefresh(account, id, from === 'login' ? 'ok' : 'shared');
    meter.credentialExpiry(account, id, Math.floor((clock.now() + leftMs) / 1000));
    const message = from === 'login' ? 'logged in' : 'uses the token of another replica';
    log.info({ account, credential: id, lifeSeconds: Math.round(leftMs / 1000) }, message);
    return { kind: 'held', held };
  };

  const decline = (outcome: Extract<Obtained, { kind: 'failed' }>): Grant => {
    const { why, restMs, internal } = outcome;
    failures = outcome.failures;
    failed = true;
    rest = { until: (clock.monotonic() + restMs) as MonotonicMs, why };
    // Of another replica's failure that one tells.
    if (outcome.from === 'login') {
      meter.credentialRefresh(account, id, why === 'unreachable' ? 'failed' : why);
      log.warn({ account, credential: id, why, restMs, internal }, 'login failed');
    }
    // A token that still lives is better than none: renewal is tried again after the rest.
    const living = current();
    if (living === null) return { kind: 'none', why, retryAfterMs: restMs };
    scheduleRenewal(restMs);
    return living;
  };

  const refresh = (): Promise<Grant> => {
    if (flight !== null) return flight;
    const unwanted = state.kind === 'token' ? { id: state.id, refused: false } : state.unwanted;
    flight = source.obtain(unwanted, failures).then((outcome) => {
      flight = null;
      if (outcome.kind === 'failed') return decline(outcome);
      // It is used at once, and then known to work or not. One that comes by itself may lie for a day: long forgotten by then.
      refusedInARow = Math.max(refusedInARow, outcome.issued.refusals);
      return accept(outcome.issued, outcome.from);
    });
    return flight;
  };

  // Taken before it is asked for: the one in use may be refused as soon as there is a newer one.
  source.onOthers((issued) => {
    const refused = state.kind === 'empty' && state.unwanted?.id === issued.id;
    if (!closed && !refused) accept(issued, 'others');
  });

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
      source.refused(state.id);
      state = { kind: 'empty', unwanted: { id: state.id, refused: true } };
      cancelRenewal?.();
      refusedInARow += 1;
      const restMs = refusedInARow < 2 ? 0 : restAfter(refusedInARow - 2);
      if (restMs > 0) rest = { until: (clock.monotonic() + restMs) as MonotonicMs, why: 'rejected' };
      log.warn({ account, credential: id, restMs }, 'upstream rejected the token');
    },
    accepted: () => {
      if (refusedInARow > 0) source.accepted();
      refusedInARow = 0;
    },
    // A single token that was refused says nothing: a fresh one is on its way.
    failing: () => failed || refusedInARow > 1,
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
      source.close();
    },
  };
}
