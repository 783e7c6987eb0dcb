import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { Switches } from './options.ts';

export interface Identity {
  /** Id of the key, or the username. */
  readonly credential: string;
}

/** API keys that can be revoked, and logins whose tokens expire. */
export class Credentials {
  readonly #keys: Map<string, string>;
  readonly #users: Readonly<Record<string, string>>;
  readonly #tokens = new Map<string, { user: string; expiresAt: number }>();
  readonly #clock: Clock;
  readonly #switches: Switches;
  #issued = 0;
  #loginsRefused = false;

  constructor(options: {
    clock: Clock;
    switches: Switches;
    apiKeys: Readonly<Record<string, string>>;
    users: Readonly<Record<string, string>>;
  }) {
    this.#clock = options.clock;
    this.#switches = options.switches;
    this.#keys = new Map(Object.entries(options.apiKeys).map(([id, key]) => [key, id]));
    this.#users = options.users;
  }

  /** Who a value of the Authorization header is, or null for 401. */
  identify(authorization: string | undefined): Identity | null {
    if (authorization === undefined) return null;
    const bearer = /^Bearer (.+)$/.exec(authorization)?.[1];
    const key = this.#keys.get(bearer !== undefined && this.#switches.bearerApiKey ? bearer : authorization);
    if (key !== undefined) return { credential: key };
    const token = bearer === undefined ? undefined : this.#tokens.get(bearer);
    if (token === undefined || token.expiresAt <= this.#clock.monotonic()) return null;
    return { credential: token.user };
  }

  /** A token, or null where username and password do not belong together. */
  login(user: unknown, password: unknown): { token: string; expiresIn: number } | null {
    if (this.#loginsRefused || typeof user !== 'string' || !Object.hasOwn(this.#users, user)) return null;
    if (this.#users[user] !== password) return null;
    this.#issued += 1;
    const part = (text: string) => Buffer.from(text).toString('base64url');
    const signature = createHash('sha256').update(`fake ${this.#issued}`).digest('base64url');
    const token = `${part('{"alg":"none","typ":"JWT"}')}.${part(JSON.stringify({ sub: user, jti: this.#issued, fake: true }))}.${signature}`;
    const expiresIn = this.#switches.tokenLifeSeconds;
    if (this.#tokens.size >= 10_000) this.#tokens.clear();
    this.#tokens.set(token, { user, expiresAt: this.#clock.monotonic() + expiresIn * 1000 });
    return { token, expiresIn };
  }

  /** From now on 401, at once. */
  revokeKey(id: string): boolean {
    for (const [key, each] of this.#keys) if (each === id) return this.#keys.delete(key);
    return false;
  }

  restoreKey(id: string, key: string): void {
    this.#keys.set(key, id);
  }

  expireTokens(): void {
    this.#tokens.clear();
  }

  refuseLogins(refused: boolean): void {
    this.#loginsRefused = refused;
  }
}
