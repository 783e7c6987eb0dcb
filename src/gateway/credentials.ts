import type { AccountSettings, CredentialSettings, Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';
import { loginCredential } from '../upstream/credentials/login.ts';
import { requestLogin } from '../upstream/credentials/login-request.ts';
import { type Credential, fixedCredential } from '../upstream/credentials/pool.ts';
import type { SharedDependencies } from './dependencies.ts';
import { LATE_ARRIVAL_MS } from './quota-backend.ts';

/** A credential of an account, with the settings it was created from. */
export interface AccountCredential {
  readonly account: string;
  readonly settings: CredentialSettings;
  readonly credential: Credential;
}

/**
 * The credentials of all accounts. A known credential with the same settings is reused: it keeps its login token, and the
 * backoff of a rejected key goes on.
 */
export function createCredentials(
  shared: SharedDependencies,
  settings: Settings,
  known: readonly AccountCredential[],
): readonly AccountCredential[] {
  return [...settings.accounts.values()].flatMap((account) =>
    account.credentials.map(
      (each) =>
        known.find((other) => other.account === account.id && deepEqual(other.settings, each)) ?? {
          account: account.id,
          settings: each,
          credential: credentialOf(shared, account, each),
        },
    ),
  );
}

function credentialOf(
  { clock, log, metrics, redactor, quotaStore, transport }: SharedDependencies,
  account: AccountSettings,
  credential: CredentialSettings,
): Credential {
  const { kind, id } = credential;
  if (kind === 'apiKey') {
    const { apiKey: value } = credential;
    return fixedCredential({ id, carrier: 'header', name: 'Authorization', value, clock, log });
  }
  if (kind !== 'login') return fixedCredential({ ...credential, carrier: kind, clock, log });
  return loginCredential({
    id,
    account: account.id,
    logIn: () =>
      requestLogin({
        ...credential,
        transport,
        clock,
        charge: () => quotaStore.admit({ account: account.id, tenant: null, maxWaitMs: 0 }),
        lateArrivalMs: LATE_ARRIVAL_MS,
      }),
    clock,
    log,
    meter: metrics,
    onToken: (token) => redactor.addPassing(token),
  });
}
