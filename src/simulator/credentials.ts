import type { Clock } from '../clock.ts';
import { type AccountOptions, MAIN_ACCOUNT } from './options.ts';
import type { Switches } from './switches.ts';

export interface Identity {
  readonly account: string;
  /** Id of the key, or the username. */
  readonly credential: string;
  readonly kind: 'key' | 'token';
  /** The company that it acts for; a call switches it for all callers that share the credential. */
  company: number;
}

interface Token {
  readonly identity: Identity;
  /** Monotonic. */
  readonly expiresAt: number;
}

const MAX_TOKENS = 10_000;

/** API keys that can be revoked, and logins whose tokens expire. */
export class Credentials {
  readonly #keys = new Map<string, Identity>();
  readonly #users = new Map<string, { readonly password: string; readonly identity: Identity }>();
  readonly #tokens = new Map<string, Token>();
  readonly #clock: Clock;
  readonly #switches: Switches;
  #issued = 0;
  #loginsRejected = false;

  constructor(options: { clock: Clock; switches: Switches; accounts: ReadonlyMap<string, AccountOptions> }) {
    this.#clock = options.clock;
    this.#switches = options.switches;
    for (const [account, { apiKeys = {}, users = {} }] of options.accounts) {
      for (const [id, key] of Object.entries(apiKeys)) this.restoreKey(id, key, account);
      for (const [user, password] of Object.entries(users)) {
        const identity: Identity = { account, credential: user, kind: 'token', company: 1 };
        this.#users.set(user, { password, identity });
      }
    }
  }

  /** The identity behind a value of the Authorization header, or null for 401. */
  identify(authorization: string | undefined): Identity | null {
    if (authorization === undefined) return null;
    const bearer = authorization.startsWith('Bearer ') ? authorization.slice(7) : null;
    if (bearer === null) return this.#keys.get(authorization) ?? null;
    const token = this.#tokens.get(bearer);
    if (token !== undefined) return token.expiresAt > this.#clock.monotonic() ? token.identity : null;
    return this.#switches.bearerApiKey ? (this.#keys.get(bearer) ?? null) : null;
  }

  /** A token, or null for a wrong username or password. */
  login(user: unknown, password: unknown): { token: string; expiresIn: number } | null {
    const known = typeof user === 'string' ? this.#users.get(user) : undefined;
    if (this.#loginsRejected || known === undefined || known.password !== password) return null;
    this.#issued += 1;
    const token = fakeJwt(known.identity.credential, this.#issued);
    const expiresIn = this.#switches.tokenLifeSeconds;
    if (this.#tokens.size >= MAX_TOKENS) {
      const [oldest] = this.#tokens.keys();
      if (oldest !== undefined) this.#tokens.delete(oldest);
    }
    this.#tokens.set(token, { identity: known.identity, expiresAt: this.#clock.monotonic() + expiresIn * 1000 });
    return { token, expiresIn };
  }

  /** The account of a username, for the counter of logins. */
  accountOf(user: unknown): string | null {
    return typeof user === 'string' ? (this.#users.get(user)?.identity.account ?? null) : null;
  }

  /** Requests with the key get 401 from now on. Default: the keys of this id in all accounts. Returns false without one. */
  revokeKey(id: string, account?: string): boolean {
    let found = false;
    for (const [key, identity] of this.#keys) {
      if (identity.credential !== id || (account !== undefined && identity.account !== account)) continue;
      found = this.#keys.delete(key);
    }
    return found;
  }

  restoreKey(id: string, key: string, account: string = MAIN_ACCOUNT): void {
    this.#keys.set(key, { account, credential: id, kind: 'key', company: 1 });
  }

  /** Returns false if there is no such token. */
  revokeToken(token: string): boolean {
    return this.#tokens.delete(token);
  }

  /** All tokens, or those of one user. */
  expireTokens(user?: string): void {
    for (const [token, { identity }] of this.#tokens) {
      if (user === undefined || identity.credential === user) this.#tokens.delete(token);
    }
  }

  rejectLogins(rejected: boolean): void {
    this.#loginsRejected = rejected;
  }
}

/** The form of a JWT, with texts that mark it as fake. */
function fakeJwt(user: string, number: number): string {
  const part = (text: string) => Buffer.from(text).toString('base64url');
  const claims = JSON.stringify({ sub: user, jti: number, fake: true });
  return `${part('{"alg":"none","typ":"JWT"}')}.${part(claims)}.${part(`fake-signature-${number}`)}`;
}
