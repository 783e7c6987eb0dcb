import { type Span, traced } from '../../ports.ts';

/** The value of the Authorization header for one attempt, and the credential and generation that it comes from. */
export interface CredentialValue {
  readonly authorization: string;
  /** Id of the credential. */
  readonly credential: string;
  /** Grows with every new token. A 401 for an old generation says nothing about the present one. */
  readonly generation: number;
}

export type Grant =
  | { readonly kind: 'granted'; readonly value: CredentialValue }
  /** `rejected`: refused by the upstream or the identity host. `unreachable`: the login failed. `throttled`: no slot for a login. */
  | { readonly kind: 'none'; readonly why: 'rejected' | 'unreachable' | 'throttled'; readonly retryAfterMs: number };

/** An API key or a login. */
export interface Credential {
  readonly id: string;
  /** A value that may be used now, or the reason why there is none. A promise only where a login is under way. */
  grant(): Grant | Promise<Grant>;
  /** The upstream answered 401 to this generation. */
  rejected(generation: number): void;
  /** The upstream answered anything else. */
  accepted(): void;
  /** By its latest use: rejected, or no login. False before the first. */
  failing(): boolean;
  status(): CredentialStatus;
  close(): void;
}

/** For `/status` and the page of the admin port. */
export interface CredentialStatus {
  /** How long it is not used; 0 if it can be. */
  readonly restsForMs: number;
  /** The reason for it; null once it works again. */
  readonly why: Extract<Grant, { kind: 'none' }>['why'] | null;
  /** The rest of a login token's life; null for a key, and where there is no token. */
  readonly expiresInMs: number | null;
}

/** The credentials of one account, in order of preference. */
export interface CredentialPool {
  /** @param tried values that this request was already refused with; none of them is granted again */
  grant(tried: readonly CredentialValue[], trace: Span | null): Promise<Grant>;
  rejected(value: CredentialValue): void;
  accepted(value: CredentialValue): void;
}

/**
 * Grants the first credential that works. After a 401 the same request gets another one: a login is tried with the token it
 * had and with one new token, a key is left alone for a while and the next credential takes over.
 */
export function createCredentialPool(credentials: readonly Credential[]): CredentialPool {
  const byId = new Map(credentials.map((credential) => [credential.id, credential]));
  return {
    async grant(tried, trace) {
      let refusal: Grant = { kind: 'none', why: 'rejected', retryAfterMs: 0 };
      for (const credential of credentials) {
        const used = tried.filter((value) => value.credential === credential.id);
        if (used.length >= 2) continue;
        const grant = await traced(trace, 'credential', credential.grant());
        if (grant.kind === 'none') {
          // `throttled` and `unreachable` pass by themselves, so they are better reasons for the caller than `rejected`.
          if (refusal.why === 'rejected') refusal = grant;
        } else if (used.every(({ generation }) => generation !== grant.value.generation)) return grant;
      }
      return refusal;
    },
    rejected: ({ credential, generation }) => byId.get(credential)?.rejected(generation),
    accepted: ({ credential }) => byId.get(credential)?.accepted(),
  };
}
