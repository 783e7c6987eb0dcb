import type { AccountSettings, CredentialSettings, Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';
import { loginCredential } from '../upstream/credentials/login.ts';
import { requestLogin } from '../upstream/credentials/login-request.ts';
import {
  apiKeyCredential,
  type Credential,
  type CredentialPool,
  createCredentialPool,
} from '../upstream/credentials/pool.ts';
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

/** By account, in order of preference. */
export function poolsOf(
  settings: Settings,
  credentials: readonly AccountCredential[],
): ReadonlyMap<string, CredentialPool> {
  return new Map(
    [...settings.accounts.keys()].map((id) => {
      const own = credentials.filter(({ account }) => account === id);
      return [id, createCredentialPool(own.map(({ credential }) => credential))];
    }),
  );
}

function credentialOf(
  { clock, log, metrics, redactor, quotaStore, transport }: SharedDependencies,
  account: AccountSettings,
  credential: CredentialSettings,
): Credential {
  if (credential.kind === 'apiKey') return apiKeyCredential({ ...credential, clock, log });
  return loginCredential({
    id: credential.id,
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
