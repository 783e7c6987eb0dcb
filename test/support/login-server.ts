import type { Clock } from '../../src/clock.ts';
import type { Log, Meter } from '../../src/ports.ts';
import { loginCredential } from '../../src/upstream/credentials/login.ts';
import type { FailedLogin, LoginOutcome } from '../../src/upstream/credentials/login-request.ts';
import type { Credential, CredentialValue, Grant } from '../../src/upstream/credentials/pool.ts';

export const quiet = new Proxy({}, { get: () => () => {} }) as Log & Meter;

export interface LoginServer {
  /** Has a function for each login that was sent; a test calls it with the response. */
  readonly logins: ((outcome: LoginOutcome) => void)[];
  readonly credential: Credential;
  /** Asks for a value, and responds to the login that this needs. */
  grantWith(outcome: LoginOutcome): Promise<Grant>;
}

/** A login credential, and the identity host behind it. */
export function loginServer(clock: Clock, meter: Meter = quiet): LoginServer {
  const logins: ((outcome: LoginOutcome) => void)[] = [];
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
    async grantWith(outcome) {
      const grant = credential.grant();
      logins.at(-1)?.(outcome);
      return grant;
    },
  };
}

export const token = (text: string, lifeMs = 1_000_000): LoginOutcome => ({ kind: 'token', token: text, lifeMs });

export const failure = (why: FailedLogin['why'], retryAfterMs = 0): LoginOutcome => ({
  kind: 'failed',
  why,
  retryAfterMs,
  internal: '',
});

export function granted(grant: Grant): CredentialValue {
  if (grant.kind === 'none') throw new Error(`no credential: ${grant.why}`);
  return grant.value;
}
