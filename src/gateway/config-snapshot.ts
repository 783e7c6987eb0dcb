import { type Authenticated, authenticate, createKeyStore, type KeyStore } from '../auth/authenticate.ts';
import type { KeyUses } from '../auth/key-use.ts';
import type { KeyEntry } from '../auth/tenant.ts';
import type { AccountSettings, CredentialSettings, Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';
import type { RequestContext } from '../context.ts';
import { rateLimitHeaders } from '../quota/headers.ts';
import type { QuotaPlan, TenantStatus } from '../quota/quota-store.ts';
import { addressRanges } from '../server/address-ranges.ts';
import { clientAddressOf, schemeOf, type TrafficSnapshot } from '../server/request-context.ts';
import { whoami } from '../server/traffic.ts';
import { loginCredential } from '../upstream/credentials/login.ts';
import { requestLogin } from '../upstream/credentials/login-request.ts';
import { type Credential, createCredentialPools, fixedCredential } from '../upstream/credentials/pool.ts';
import type { Dependencies, SharedDependencies } from './dependencies.ts';
import { createIssuerKeys, type IssuerKeys, identityStoreOf } from './issuers.ts';
import { createPipeline } from './pipeline.ts';
import { planOf } from './quota-backend.ts';

/** The settings in force and everything built from them. A request ends with the snapshot it began with. */
export interface ConfigSnapshot extends TrafficSnapshot {
  readonly dependencies: Dependencies;
  readonly credentials: readonly AccountCredential[];
  readonly issuerKeys: readonly IssuerKeys[];
  /** Requests without a result, and background work. A response that is still being streamed needs no snapshot. */
  inUse(): number;
}

/**
 * Holds the snapshot in force, and older ones while requests use them. Tenants, accounts and credentials that a reload
 * removed are released when the last request that may need them has ended.
 */
export function createConfigSnapshots(shared: SharedDependencies, first: Settings) {
  const { quotaStore, metrics, redactor, log, admissionQueue, observedQueue } = shared;
  let plan: QuotaPlan = planOf(first);
  const whenIdle: (() => void)[] = [];
  const create = (settings: Settings, before: ConfigSnapshot | null): ConfigSnapshot =>
    createSnapshot(shared, settings, before, () => {
      releaseUnused();
      if (!inUse()) for (const resolve of whenIdle.splice(0)) resolve();
    });
  let current = create(first, null);
  let older: readonly ConfigSnapshot[] = [];
  const inUse = (): boolean => [current, ...older].some((each) => each.inUse() > 0);

  const configureQuota = (next: QuotaPlan): void => {
    if (deepEqual(next, plan)) return;
    plan = next;
    quotaStore.configure(next);
    // The waiting times given to requests in the queue may no longer be right.
    admissionQueue.reconsider();
    observedQueue.reconsider();
  };
  const releaseUnused = (): void => {
    const unused = older.filter((each) => each.inUse() === 0);
    if (unused.length === 0) return;
    older = older.filter((each) => !unused.includes(each));
    const kept = new Set([current, ...older].flatMap(({ credentials }) => credentials));
    for (const each of new Set(unused.flatMap(({ credentials }) => credentials))) {
      if (kept.has(each)) continue;
      each.credential.close();
      const { account, settings } = each;
      const replaced = current.credentials.some((own) => own.account === account && own.settings.id === settings.id);
      if (!replaced) metrics.credentialGone(account, settings.id);
    }
    configureQuota(planOf(current.dependencies.settings, settingsOf(older)));
  };

  return {
    current: (): ConfigSnapshot => current,
    /** Puts settings in force for all requests from now on. Nothing has changed if it throws. */
    replace(settings: Settings): void {
      // First, because building the snapshot may already write to the log.
      for (const secret of settings.secrets) redactor.add(secret.reveal());
      const next = create(settings, current);
      const stillUsed = [...older, current];
      // The quota comes before the snapshot: no request may ask for a tenant that the quota does not know.
      configureQuota(planOf(settings, settingsOf(stillUsed)));
      shared.bodyMemory.resize(settings.limits.bufferedTotalBytes);
      older = stillUsed;
      for (const each of current.issuerKeys) if (!next.issuerKeys.includes(each)) each.keys.close();
      for (const { keys } of next.issuerKeys) keys.start();
      current = next;
      // A tenant that was removed or disabled sends nothing more, not even requests that already wait.
      const tenantStatus = tenantStatusIn(settings);
      admissionQueue.dismiss(tenantStatus);
      observedQueue.dismiss(tenantStatus);
      log.configure(settings.log);
      metrics.keepTenants(new Set(settings.tenants.keys()));
      shared.keyUses.keep(settings.tenants.values());
      releaseUnused();
    },
    /** Resolves when no request is without a result, including writes whose caller has disconnected. */
    idle: (): Promise<void> => (inUse() ? new Promise((resolve) => whenIdle.push(resolve)) : Promise.resolve()),
    /** Ends the credentials of all snapshots. */
    close(): void {
      for (const { credentials } of [current, ...older]) for (const { credential } of credentials) credential.close();
      for (const { keys } of current.issuerKeys) keys.close();
    },
  };
}

/** @param onIdle called whenever the last use of the snapshot has ended; others may follow */
function createSnapshot(
  shared: SharedDependencies,
  settings: Settings,
  before: ConfigSnapshot | null,
  onIdle: () => void,
): ConfigSnapshot {
  const credentials = createCredentials(shared, settings, before?.credentials ?? []);
  const issuerKeys = createIssuerKeys(shared, settings, before?.issuerKeys ?? []);
  const trustedProxies = addressRanges(settings.listen.trustedProxies);
  const dependencies: Dependencies = {
    ...shared,
    settings,
    trustedProxies,
    keys: keyStoreOf(settings, shared.keyUses),
    identities: identityStoreOf(settings, issuerKeys, shared),
    credentials: createCredentialPools(credentials),
    upstreamStates: shared.upstreams.configure(settings.upstreams),
    budgets: (account) => settings.accounts.get(account)?.quota.budgets,
  };
  let inUse = 0;
  const track = <T>(work: Promise<T>): Promise<T> => {
    inUse += 1;
    return work.finally(() => {
      inUse -= 1;
      if (inUse === 0) onIdle();
    });
  };
  const background = (work: Promise<unknown>): void => {
    track(work).catch((error: unknown) => shared.log.error({ err: error }, 'background work failed'));
  };
  const pipeline = createPipeline(dependencies, background);
  return {
    dependencies,
    pipeline: (context) => track(pipeline(context)),
    whoami: authenticate<RequestContext>(dependencies)(
      rateLimitHeaders<RequestContext & Authenticated>(dependencies)(whoami(dependencies)),
    ),
    bodyBytes: settings.limits.bodyBytes,
    stallTimeoutMs: settings.limits.stallTimeoutMs,
    clientAddress: clientAddressOf(trustedProxies, shared.addressWarnings.untrustedForwarder),
    scheme: schemeOf(trustedProxies),
    problems: settings.problems,
    credentials,
    issuerKeys,
    inUse: () => inUse,
  };
}

function keyStoreOf({ tenants }: Settings, uses: KeyUses): KeyStore {
  const entries = new Map<string, KeyEntry>();
  for (const tenant of tenants.values()) {
    for (const { sha256, ...key } of tenant.keys) {
      const cidrs = key.cidrs && addressRanges(key.cidrs);
      entries.set(sha256, { ...key, kind: 'key', cidrs, tenant, use: uses.of(tenant.id, key.id) });
    }
  }
  return createKeyStore(entries);
}

function tenantStatusIn({ tenants }: Settings): (tenant: string) => TenantStatus {
  return (id) => {
    const tenant = tenants.get(id);
    if (tenant === undefined) return 'removed';
    return tenant.disabled ? 'disabled' : 'active';
  };
}

function settingsOf(snapshots: readonly ConfigSnapshot[]): Settings[] {
  return snapshots.map(({ dependencies }) => dependencies.settings);
}

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
function createCredentials(
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
      }),
    clock,
    log,
    meter: metrics,
    onToken: (token) => redactor.addPassing(token),
  });
}
