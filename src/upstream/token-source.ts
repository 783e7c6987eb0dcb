import { randomUUID } from 'node:crypto';
import type { LoginOutcome } from './login-call.ts';
import { type FailedLogin, restOf } from './rest.ts';

/** A login token as it came, from the identity host or from another replica. */
export interface IssuedToken {
  /** By chance: replicas tell by it whether they mean the same token, and nothing can be learned from it. */
  readonly id: string;
  readonly token: string;
  /** From when its login began. */
  readonly lifeMs: number;
  /** What is left of that. */
  readonly leftMs: number;
  /** Tokens of this login that upstream refused in a row before this one. */
  readonly refusals: number;
}

export type Obtained =
  | { readonly kind: 'token'; readonly issued: IssuedToken; readonly from: 'login' | 'others' }
  | {
      readonly kind: 'failed';
      readonly why: FailedLogin['why'];
      /** Nobody asks again before. */
      readonly restMs: number;
      /** Logins that failed in a row, as far as is known. */
      readonly failures: number;
      readonly internal: string;
      readonly from: 'login' | 'others';
    };

/** A token that is of no use any more. */
export interface Unwanted {
  readonly id: string;
  /** Upstream refused it: nobody should have it. Otherwise it is to be renewed. */
  readonly refused: boolean;
}

/** Where a login's tokens come from: a login of this process, or of whichever replica was first. */
export interface TokenSource {
  /** Another token than this one. Never throws. */
  obtain(unwanted: Unwanted | null, failures: number): Promise<Obtained>;
  /** Upstream refused this one: it is neither told to others nor taken from them any more. */
  refused(id: string): void;
  /** One works: those after it are not refused in a row. */
  accepted(): void;
  /** Calls `run` with a token that all replicas use now, if this one has not come by it by itself. */
  onOthers(run: (issued: IssuedToken) => void): void;
  close(): void;
}

/** For a process that shares its tokens with nobody. */
export function ownTokens(login: () => Promise<LoginOutcome>): TokenSource {
  return {
    async obtain(_unwanted, failures) {
      const outcome = await login();
      if (outcome.kind === 'failed') {
        const { why, internal } = outcome;
        return { kind: 'failed', why, internal, ...restOf(outcome, failures), from: 'login' };
      }
      return { kind: 'token', issued: newlyIssued(randomUUID(), outcome), from: 'login' };
    },
    refused: () => {},
    accepted: () => {},
    onOthers: () => {},
    close: () => {},
  };
}

export function newlyIssued(id: string, outcome: Extract<LoginOutcome, { kind: 'token' }>): IssuedToken {
  const { token, lifeMs } = outcome;
  return { id, token, lifeMs, leftMs: lifeMs, refusals: 0 };
}
