import type { AccountSettings } from '../config/model.ts';
import { apiKeyCredential, type CredentialPool, createCredentialPool } from '../upstream/credentials.ts';
import { loginCredential } from '../upstream/login.ts';
import { callLogin } from '../upstream/login-call.ts';
import { LATE_ARRIVAL_MS } from './late.ts';
import type { Parts } from './parts.ts';

/** All the parts that credentials build on. */
type Base = Omit<Parts, 'credentials'>;

/**
 * The credentials of each account, in order of preference.
 *
 * @param kept pools that go on: a token is not thrown away because a tenant was added
 */
export function credentialPools(
  base: Base,
  kept: ReadonlyMap<string, CredentialPool> = new Map(),
): Map<string, CredentialPool> {
  const { accounts } = base.settings;
  return new Map([...accounts].map(([id, account]) => [id, kept.get(id) ?? credentialPool(base, account)]));
}

function credentialPool(
  { clock, log, metrics, redactor, ledger, sender }: Base,
  account: AccountSettings,
): CredentialPool {
  const credentials = account.credentials.map((credential) => {
    if (credential.kind === 'apiKey') return apiKeyCredential({ ...credential, clock, log });
    return loginCredential({
      id: credential.id,
      account: account.id,
      clock,
      log,
      meter: metrics,
      login: () =>
        callLogin({
          ...credential,
          sender,
          clock,
          charge: () => ledger.admit({ account: account.id, tenant: null, maxWaitMs: 0 }),
          lateArrivalMs: LATE_ARRIVAL_MS,
        }),
      onToken: (token) => redactor.addPassing(token),
    });
  });
  return createCredentialPool(credentials);
}
