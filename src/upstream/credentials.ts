import type { Clock, MonotonicMs } from '../clock.ts';
import type { Log } from '../ports.ts';
import type { Secret } from '../secret.ts';

/** The value of the Authorization header for one attempt, and which credential and generation it came from. */
export interface Held {
  readonly authorization: string;
  readonly credential: string;
  /** Grows with every new token. A 401 for an old generation says nothing of the present one. */
  readonly generation: number;
}

export type Grant =
  | { readonly kind: 'held'; readonly held: Held }
  /** `rejected`: upstream said no to all. `unreachable`: the login host does not answer. `throttled`: no slot for a login. */
  | { readonly kind: 'none'; readonly why: 'rejected' | 'unreachable' | 'throttled'; readonly retryAfterMs: number };

/** One credential as the pool sees it: an API key or a login. */
export interface Credential {
  readonly id: string;
  /** A value that may be used now, or why there is none. Answers at once where it can. */
  grant(): Grant | Promise<Grant>;
  /** Upstream answered 401 to this generation. */
  rejected(generation: number): void;
  /** Upstream answered anything else. */
  accepted(): void;
  /** By its last use: rejected, or no login. False before the first. */
  failing(): boolean;
  /** How it stands, for people. */
  standing(): CredentialStanding;
  close(): void;
}

export interface CredentialStanding {
  /** It is offered to nobody this long; 0 if it can be used. */
  readonly restsForMs: number;
  /** What the latest rest came from; null once it works again. */
  readonly why: Extract<Grant, { kind: 'none' }>['why'] | null;
  /** What is left of a login token; null for a key, and where there is no token. */
  readonly expiresInMs: number | null;
}

/** The credentials of one account, in order of preference. */
export interface CredentialPool {
  /** @param tried what this request was already refused with; none of it is offered again. */
  grant(tried: readonly Held[]): Grant | Promise<Grant>;
  rejected(held: Held): void;
  accepted(held: Held): void;
  close(): void;
}

/** How long a rejected API key is left alone: long enough not to cost a request each time, short enough to come back. */
const REJECTED_KEY_REST_MS = 60_000;

/**
 * Offers the first credential that works: the preferred one, or while it is resting the next. A 401 moves on: a login
 * gets one fresh token for the generation that was refused, a key rests.
 */
export function createCredentialPool(credentials: readonly Credential[]): CredentialPool {
  const byId = new Map(credentials.map((credential) => [credential.id, credential]));
  const usable = (credential: Credential, tried: readonly Held[]): boolean =>
    // A login may be tried twice: with the token it had, and with a fresh one.
    tried.filter((held) => held.credential === credential.id).length < 2;

  const from = (index: number, tried: readonly Held[], last: Grant): Grant | Promise<Grant> => {
    for (let i = index; i < credentials.length; i++) {
      const credential = credentials[i] as Credential;
      if (!usable(credential, tried)) continue;
      const grant = credential.grant();
      if (grant instanceof Promise)
        return grant.then((later) => (fits(later, tried) ? later : from(i + 1, tried, worse(last, later))));
      if (fits(grant, tried)) return grant;
      last = worse(last, grant);
    }
    return last;
  };

  return {
    grant: (tried) => from(0, tried, { kind: 'none', why: 'rejected', retryAfterMs: 0 }),
    rejected: (held) => {
      byId.get(held.credential)?.rejected(held.generation);
    },
    accepted: (held) => {
      byId.get(held.credential)?.accepted();
    },
    close: () => {
      for (const credential of credentials) credential.close();
    },
  };
}

function fits(grant: Grant, tried: readonly Held[]): boolean {
  if (grant.kind === 'none') return false;
  return !tried.some((held) => held.credential === grant.held.credential && held.generation === grant.held.generation);
}

/** Of several reasons the one that passes by itself: `throttled` and `unreachable` before `rejected`. */
function worse(last: Grant, grant: Grant): Grant {
  if (grant.kind === 'held') return last;
  return last.kind === 'none' && last.why !== 'rejected' ? last : grant;
}

/** An API key: sent verbatim, without a scheme word. */
export function apiKeyCredential(options: {
  readonly id: string;
  readonly apiKey: Secret;
  readonly clock: Clock;
  readonly log: Log;
}): Credential {
  const held: Held = { authorization: options.apiKey.reveal(), credential: options.id, generation: 1 };
  const grant: Grant = { kind: 'held', held };
  let restUntil = 0 as MonotonicMs;
  let failing = false;
  return {
    id: options.id,
    grant: () => {
      const restMs = restUntil - options.clock.monotonic();
      return restMs > 0 ? { kind: 'none', why: 'rejected', retryAfterMs: restMs } : grant;
    },
    rejected: () => {
      failing = true;
      restUntil = (options.clock.monotonic() + REJECTED_KEY_REST_MS) as MonotonicMs;
      options.log.warn({ credential: options.id, restMs: REJECTED_KEY_REST_MS }, 'upstream rejected the API key');
    },
    accepted: () => {
      failing = false;
    },
    failing: () => failing,
    standing: () => {
      const restsForMs = Math.max(0, restUntil - options.clock.monotonic());
      return { restsForMs, why: restsForMs > 0 ? 'rejected' : null, expiresInMs: null };
    },
    close: () => {},
  };
}
