import type { FailedLogin } from './rest.ts';
import type { IssuedToken, Unwanted } from './token-source.ts';

/** A login as all replicas know it together: its token, who is getting a new one, and the rest after one that failed. */
export interface SharedLogin {
  /** @param attempt names this attempt, and no other of anybody's */
  claim(attempt: string, unwanted: Unwanted | null): Promise<Claimed>;
  /** The token that all use, if there is one and it is not this one; nothing is claimed. */
  look(unwanted: string | null): Promise<IssuedToken | null>;
  /** The attempt is under way yet. Best effort: not told in time, another replica takes over. */
  keep(attempt: string): void;
  /**
   * Makes it the token of all, unless one is there whose login began later: then that is returned, and this one is nobody's.
   * Null: it is theirs too, or they can not be reached.
   */
  store(token: NewToken): Promise<IssuedToken | null>;
  /** Ends the attempt. Null: it had ended already, or the others can not be reached. */
  fail(attempt: string, failed: FailedLogin, failures: number): Promise<Rest | null>;
  /** A token works. */
  accepted(): void;
  /** Calls `run` when what all know may be another than what this replica knows of it. */
  onNews(run: () => void): void;
  close(): void;
}

export type Claimed =
  /** There is one that is not the unwanted one. */
  | { readonly kind: 'token'; readonly issued: IssuedToken }
  /** This replica logs in. `at`: now, by the clock of those who share it. */
  | { readonly kind: 'ours'; readonly at: number }
  /** Another does. */
  | { readonly kind: 'theirs' }
  | { readonly kind: 'resting'; readonly why: FailedLogin['why']; readonly restMs: number; readonly failures: number }
  /** Nobody can be asked. */
  | { readonly kind: 'alone' };

export interface NewToken {
  readonly id: string;
  readonly token: string;
  /** From when its login began. */
  readonly lifeMs: number;
  /** Of whoever claimed it, with the time that was told; or how long ago the login began, where nobody could be asked. */
  readonly begun: { readonly attempt: string; readonly at: number } | { readonly agoMs: number };
}

export interface Rest {
  readonly restMs: number;
  readonly failures: number;
}
