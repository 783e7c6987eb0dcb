import { Readable } from 'node:stream';
import { createUndiciTransport } from '../adapters/undici/transport.ts';
import { systemClock } from '../clock.ts';
import type { AccountSettings, CredentialSettings, FixedCredentialSettings, Settings } from '../config/settings.ts';
import { isFixed } from '../config/settings.ts';
import { NEVER_DISCONNECTS } from '../context.ts';
import { parseAdvertisedLimit } from '../quota/headers.ts';
import { REMOVED_TENANT } from '../quota/quota-store.ts';
import { requestLogin } from '../upstream/credentials/login-request.ts';
import type { Transport } from '../upstream/transport.ts';

/** A read that every credential may do, with the smallest response. */
const TARGET = '/api/v1/flows?per_page=1';
const TIMEOUT_MS = 15_000;
/** Patchworks checks the credential before it throttles or checks permissions, so that these prove it too. */
const PROVES_CREDENTIAL = [403, 429];

interface OnlineResult {
  /** Every credential is accepted. */
  readonly ok: boolean;
  readonly lines: readonly string[];
}

/** Sends one request with each credential, and one login before it where it has to log in. None waits for a slot. */
export async function checkOnline(settings: Settings): Promise<OnlineResult> {
  const transport = createUndiciTransport({ clock: systemClock });
  try {
    const tries = [...settings.accounts.values()].flatMap((account) =>
      account.credentials.map((credential) => tryCredential(account, credential, settings, transport)),
    );
    const results = await Promise.all(tries);
    return { ok: results.every(({ ok }) => ok), lines: results.flatMap(({ lines }) => lines) };
  } finally {
    await transport.close();
  }
}

async function tryCredential(
  { id: account, quota }: AccountSettings,
  credential: CredentialSettings,
  { upstreams }: Settings,
  transport: Transport,
): Promise<OnlineResult> {
  const said = (ok: boolean, text: string, ...more: string[]): OnlineResult => ({
    ok,
    lines: [`online: account ${account}, credential ${credential.id}: ${text}`, ...more],
  });
  const own = [...upstreams.values()].filter((upstream) => upstream.account === account);
  const origin = (own.find(({ id }) => id === 'core') ?? own[0])?.origin;
  if (origin === undefined) return said(true, 'no upstream uses this account; nothing was sent');
  // A request that is harmless is known for Patchworks' API only: a GET on a callback starts a run.
  if (isFixed(credential))
    return said(true, `a secret in a ${credential.kind}: it shows with the first request; nothing was sent`);
  const authorization = await authorizationOf(credential, transport);
  if (typeof authorization !== 'string') return said(false, authorization.failure);
  const sent = await transport.send({
    ...{ origin, method: 'GET', target: TARGET, body: null, timeoutMs: TIMEOUT_MS, disconnect: NEVER_DISCONNECTS },
    headers: ['Authorization', authorization, 'Accept', 'application/json', 'Content-Type', 'application/json'],
  });
  if (sent.kind === 'failed') return said(false, `${origin} gave no response: ${sent.reason}`);
  if (sent.body instanceof Readable) sent.body.destroy();
  const { status, headers } = sent;
  const { limit, remaining } = parseAdvertisedLimit({ status, headers, now: systemClock.now(), onInvalid: () => {} });
  const limits = limit === null ? 'no limit is advertised' : `limit ${limit} in 60 s, ${remaining ?? 'unknown'} left`;
  const verdict = status === 401 ? ': the credential is rejected' : '';
  const differs = limit !== null && limit !== quota.limit;
  return said(
    (status >= 200 && status < 300) || PROVES_CREDENTIAL.includes(status),
    `${origin} answered ${status}${verdict}; ${limits}`,
    ...(differs
      ? [`warning: accounts.${account}.quota.limit is ${quota.limit}, and Patchworks advertises ${limit}`]
      : []),
  );
}

async function authorizationOf(
  credential: Exclude<CredentialSettings, FixedCredentialSettings>,
  transport: Transport,
): Promise<string | { readonly failure: string }> {
  if (credential.kind === 'apiKey') return credential.apiKey.reveal();
  const slot = { complete() {}, lose() {}, refund() {} };
  const login = await requestLogin({
    ...{ ...credential, transport, clock: systemClock },
    charge: async () => ({ kind: 'admitted', slot, tenant: REMOVED_TENANT }),
  });
  if (login.kind === 'token') return `Bearer ${login.token}`;
  return { failure: `the login at ${new URL(credential.url).host} failed: ${login.reason}, ${login.internal}` };
}
