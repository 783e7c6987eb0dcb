import type { Clock } from '../../src/clock.ts';
import type { Log, Meter } from '../../src/ports.ts';
import { loginCredential } from '../../src/upstream/credentials/login.ts';
import type { FailedLogin, LoginResult } from '../../src/upstream/credentials/login-request.ts';
import type { Credential, CredentialResult, IssuedCredential } from '../../src/upstream/credentials/pool.ts';

export const quiet = new Proxy({}, { get: () => () => {} }) as Log & Meter;

export interface LoginServer {
  /** Has a function for each login that was sent; a test calls it with the response. */
  readonly logins: ((login: LoginResult) => void)[];
  readonly credential: Credential;
  /** Asks for a credential, and responds to the login that this needs. */
  issueWith(login: LoginResult): Promise<CredentialResult>;
}

/** A login credential, and the identity host behind it. */
export function loginServer(clock: Clock, meter: Meter = quiet): LoginServer {
  const logins: ((login: LoginResult) => void)[] = [];
  const credential = loginCredential({
    id: 'login',
    account: 'main',
    logIn: () => new Promise((resolve) => logins.push(resolve)),
    clock,
    log: quiet,
    meter,
    onToken: () => {},
  });
  return {
    logins,
    credential,
    async issueWith(login) {
      const result = credential.issue();
      logins.at(-1)?.(login);
      return result;
    },
  };
}

export const token = (text: string, lifeMs = 1_000_000): LoginResult => ({ kind: 'token', token: text, lifeMs });

export const failure = (reason: FailedLogin['reason'], retryAfterMs = 0): LoginResult => ({
  kind: 'failed',
  reason,
  retryAfterMs,
  internal: '',
});

export function issued(result: CredentialResult): IssuedCredential {
  if (result.kind === 'unavailable') throw new Error(`no credential: ${result.reason}`);
  return result.credential;
}
