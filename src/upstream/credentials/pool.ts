import type { Clock, MonotonicMs } from '../../clock.ts';
import { type Rejection, reject, traced } from '../../context.ts';
import type { Log, Span } from '../../ports.ts';
import type { Secret } from '../../secret.ts';

/** A secret for one attempt, the header or query parameter that carries it, and where it comes from. */
export interface IssuedCredential {
  readonly id: string;
  readonly carrier: 'header' | 'query';
  readonly name: string;
  readonly value: string;
  /** Grows with every new token. A 401 for an old generation says nothing about the present one. */
  readonly generation: number;
}

export type CredentialResult =
  | { readonly kind: 'issued'; readonly credential: IssuedCredential }
  | { readonly kind: 'unavailable'; readonly reason: UnavailableReason; readonly retryAfterMs: number };

/** `rejected`: by the upstream or the identity host. `unreachable`: the login failed. `throttled`: no slot for a login. */
export type UnavailableReason = 'rejected' | 'unreachable' | 'throttled';

type Unavailable = Extract<CredentialResult, { kind: 'unavailable' }>;

/** An API key, a login, or a fixed header or query parameter. */
export interface Credential {
  readonly id: string;
  /** A promise only while a login is pending. Never throws. */
  issue(): CredentialResult | Promise<CredentialResult>;
  /** The upstream answered 401 to this generation. */
  rejected(generation: number): void;
  /** The upstream answered anything else. */
  accepted(): void;
  status(): CredentialStatus;
  close(): void;
}

export interface CredentialStatus {
  /** Whether its latest use was rejected or its latest login failed. False before the first use. */
  readonly failing: boolean;
  /** The rest of its backoff; 0 if it can be used. */
  readonly backoffMs: number;
  /** The reason of the latest backoff; null once the credential works again. */
  readonly reason: UnavailableReason | null;
  /** The rest of a login token's life; null for a key, and without a token. */
  readonly expiresInMs: number | null;
}

/** The credentials of one account, in order of preference, or the one that a route names. */
export interface CredentialPool {
  /** @param tried credentials that the upstream rejected for this request; none of them is issued again */
  issue(tried: readonly IssuedCredential[], trace: Span | null): Promise<CredentialResult>;
  /** Set while every credential is in backoff: a request need not wait for a slot to learn this. Starts no login. */
  backoff(): Unavailable | null;
  rejected(credential: IssuedCredential): void;
  accepted(credential: IssuedCredential): void;
}

/** The part of a route that decides which credentials its requests may use. */
export interface CredentialChoice {
  readonly upstream: { readonly account: string };
  /** Null: any of the account. */
  readonly credential: string | null;
}

export interface CredentialPools {
  of(route: CredentialChoice): CredentialPool;
}

/** @param all those of an account in order of preference */
export function createCredentialPools(
  all: readonly { readonly account: string; readonly credential: Credential }[],
): CredentialPools {
  const pools = new Map<string, CredentialPool>();
  for (const { account, credential } of all) {
    const ofAccount = all.filter((each) => each.account === account).map((each) => each.credential);
    pools.set(account, createCredentialPool(ofAccount));
    pools.set(`${account} ${credential.id}`, createCredentialPool([credential]));
  }
  return {
    of({ upstream: { account }, credential }) {
      const name = credential === null ? account : `${account} ${credential}`;
      const pool = pools.get(name);
      if (pool === undefined) throw new Error(`no credentials for ${name}`);
      return pool;
    },
  };
}

/**
 * Issues the first credential that works. After a 401 a request gets another one: a login is tried with its current token and with
 * one new token, while a key goes into backoff and the next credential takes over.
 */
export function createCredentialPool(credentials: readonly Credential[]): CredentialPool {
  const byId = new Map(credentials.map((credential) => [credential.id, credential]));
  return {
    async issue(tried, trace) {
      let unavailable: CredentialResult = { kind: 'unavailable', reason: 'rejected', retryAfterMs: 0 };
      for (const credential of credentials) {
        const used = tried.filter(({ id }) => id === credential.id);
        if (used.length >= 2) continue;
        const result = await traced(trace, 'credential', credential.issue());
        if (result.kind === 'unavailable') {
          // `throttled` and `unreachable` pass by themselves, so the caller receives these rather than `rejected`.
          if (unavailable.reason === 'rejected') unavailable = result;
        } else if (used.every(({ generation }) => generation !== result.credential.generation)) return result;
      }
      return unavailable;
    },
    backoff() {
      let result: Unavailable | null = null;
      for (const credential of credentials) {
        const { backoffMs, reason } = credential.status();
        if (backoffMs === 0 || reason === null || reason === 'throttled') return null;
        const known: Unavailable = { kind: 'unavailable', reason, retryAfterMs: backoffMs };
        // As in `issue`: what passes by itself comes first.
        if (result === null || result.reason === 'rejected') result = known;
      }
      return result;
    },
    rejected: ({ id, generation }) => byId.get(id)?.rejected(generation),
    accepted: ({ id }) => byId.get(id)?.accepted(),
  };
}

interface FixedCredentialOptions {
  readonly id: string;
  readonly carrier: 'header' | 'query';
  readonly name: string;
  readonly value: Secret;
  readonly clock: Clock;
  readonly log: Log;
}

/** Another try of a rejected key costs a request, and a repaired key must work again without a restart. */
const BACKOFF_MS = 60_000;

/** A secret that is sent verbatim and never renewed, such as an API key. */
export function fixedCredential({ id, carrier, name, value, clock, log }: FixedCredentialOptions): Credential {
  const issued: CredentialResult = {
    kind: 'issued',
    credential: { id, carrier, name, value: value.reveal(), generation: 1 },
  };
  let backoffUntil = 0 as MonotonicMs;
  let failing = false;
  const backoffMs = (): number => Math.max(0, backoffUntil - clock.monotonic());
  return {
    id,
    issue() {
      const retryAfterMs = backoffMs();
      return retryAfterMs > 0 ? { kind: 'unavailable', reason: 'rejected', retryAfterMs } : issued;
    },
    rejected() {
      failing = true;
      backoffUntil = (clock.monotonic() + BACKOFF_MS) as MonotonicMs;
      log.warn({ credential: id, backoffMs: BACKOFF_MS }, 'upstream rejected the credential');
    },
    accepted() {
      failing = false;
    },
    status() {
      const ms = backoffMs();
      return { failing, backoffMs: ms, reason: ms > 0 ? 'rejected' : null, expiresInMs: null };
    },
    close: () => {},
  };
}

export function rejectUnavailable({ reason, retryAfterMs }: Unavailable): Rejection {
  const retryAfterSeconds = Math.max(1, Math.ceil(retryAfterMs / 1000));
  switch (reason) {
    case 'rejected':
      return reject('upstream_credentials_rejected', { retryAfterSeconds });
    case 'throttled':
      return reject('account_quota', { retryAfterSeconds, internal: 'no slot for a login' });
    case 'unreachable':
      return reject('upstream_unreachable', {
        detail: 'The gateway could not log in to Patchworks.',
        retryAfterSeconds,
        internal: 'login failed',
      });
  }
}
