import type { BlockingLimit } from '../adapters/abuse-limits.ts';
import type { RedisFault } from '../adapters/redis/client/faults.ts';
import type {
  BlockedAddressStatus,
  BlockedStatus,
  BudgetStatus,
  CredentialStatus,
  Frame,
  IssuerStatus,
  KeyFindings,
  KeyNames,
  KeyStatus,
  LoadStatus,
  StateStatus,
  TenantStatus,
  Use,
} from '../admin/status/document.ts';
import { type KeyUse, type KeyUses, lastMinuteOf } from '../auth/key-use.ts';
import type { EpochMs } from '../clock.ts';
import type { TenantSettings } from '../config/settings.ts';
import { type BudgetView, projectionOf } from '../quota/budgets.ts';
import { addUsage, NO_USAGE, type Usage } from '../telemetry/metrics.ts';
import type { Redactor } from '../telemetry/redact.ts';
import type { AccountCredential } from './config-snapshot.ts';
import type { Dependencies } from './dependencies.ts';
import type { IssuerKeys } from './issuers.ts';

/** The state of each account, with the requests that wait for a slot. */
export function accountViewsOf({ settings, quotaStore, admissionQueue }: Dependencies) {
  const ids = [...settings.accounts.keys()];
  return ids.map((id) => ({ id, ...quotaStore.view(id), waiting: admissionQueue.waiting(id) }));
}

/**
 * The credentials of an account, in order of preference. The next request uses the first one that is not in backoff.
 *
 * @param named those of routes that use no other
 */
export function credentialStatusOf(
  drawn: readonly AccountCredential[],
  account: string,
  named: ReadonlySet<string | null>,
): CredentialStatus[] {
  let found = false;
  return drawn
    .filter((each) => each.account === account)
    .map(({ settings: { id, kind }, credential }) => {
      const status = credential.status();
      const isFirst = !found && status.backoffMs === 0;
      found ||= isFirst;
      const isNamed = named.has(id);
      const inUse = status.backoffMs === 0 && (isFirst || isNamed);
      return { id, kind, named: isNamed, inUse, ...status };
    });
}

export function issuerStatusOf(issuers: readonly IssuerKeys[]): Record<string, IssuerStatus> {
  return Object.fromEntries(
    issuers.map(({ issuer, keys }) => {
      const { readAt, ...status } = keys.status();
      return [issuer, { ...status, readAt: readAt === null ? null : new Date(readAt).toISOString() }];
    }),
  );
}

export function budgetStatusOf(views: readonly BudgetView[] = [], now: EpochMs): Record<string, BudgetStatus> {
  return Object.fromEntries(
    views.map((view) => {
      const { id, per, timeZone, limit, used, left, warnAt, resetsAt } = view;
      const projection = projectionOf(view, now);
      const status = {
        ...{ per, timeZone, limit, used, left, warnAt, resets: new Date(resetsAt).toISOString() },
        resetsInMs: Math.max(0, resetsAt - now),
        endsInMs: projection.endsAt === null ? null : Math.ceil(projection.endsAt - now),
        projected: projection.used,
      };
      return [id, status];
    }),
  );
}

export function useOf({ requests, refused, wouldReject, saved }: Usage = NO_USAGE): Use {
  return { requests, refused, wouldReject, saved };
}

export function sumOf(usages: readonly Usage[]): Usage {
  return usages.reduce((sum, each) => addUsage(sum, each), NO_USAGE);
}

/** The server's own words, which may repeat what it was sent. */
export function problemOf(
  fault: Pick<RedisFault, 'code' | 'reason'> | null,
  redactor: Redactor,
): StateStatus['problem'] {
  return fault && { code: fault.code, reason: redactor.apply(fault.reason).slice(0, LONGEST_PROBLEM) };
}

export type NamedTenant = TenantStatus & { readonly id: string };

/** The page is read on a phone; GET /status has all of them. */
const BUSIEST = 25;

export function busiestOf(tenants: readonly NamedTenant[]): Frame['tenants'] {
  const all = [...tenants];
  all.sort((a, b) => b.recent.requests - a.recent.requests || b.waiting - a.waiting || (a.id < b.id ? -1 : 1));
  const rest = all.slice(BUSIEST);
  const total = (field: keyof Use) => rest.reduce((sum, { recent }) => sum + recent[field], 0);
  return {
    count: all.length,
    busiest: all.slice(0, BUSIEST),
    rest: {
      requests: total('requests'),
      refused: total('refused'),
      wouldReject: total('wouldReject'),
      saved: total('saved'),
      waiting: rest.reduce((sum, { waiting }) => sum + waiting, 0),
    },
  };
}

/** A broken file of tenants may have a problem a line. */
const MOST_PROBLEMS = 10;
const LONGEST_PROBLEM = 500;

/** @param problems undefined: it took effect */
export function loadStatusOf(problems: readonly string[] | undefined, at: string, redactor: Redactor): LoadStatus {
  return {
    outcome: problems === undefined ? 'ok' : 'refused',
    at,
    problems: (problems ?? []).slice(0, MOST_PROBLEMS).map((each) => redactor.apply(each).slice(0, LONGEST_PROBLEM)),
  };
}

const MOST_ADDRESSES = 10;

export function blockedStatusOf(
  { failedAuthLimit, trustedProxies, addressWarnings }: Dependencies,
  adminGuessLimit: Pick<BlockingLimit, 'blocked'>,
): BlockedStatus {
  const blockedAt = (port: BlockedAddressStatus['port'], limit: Pick<BlockingLimit, 'blocked'>) =>
    limit.blocked().map(({ address, forMs }) => ({ port, address, forMs: Math.ceil(forMs) }));
  const all = [...blockedAt('traffic', failedAuthLimit), ...blockedAt('admin', adminGuessLimit)];
  const addresses = all.slice(0, MOST_ADDRESSES).map((each) => ({
    ...each,
    isTrustedProxy: trustedProxies.includes(each.address),
    sendsForwardedFor: addressWarnings.mayBeProxy(each.address),
  }));
  return { count: all.length, addresses };
}

/** A key or an identity of a tenant, as the configuration has it. */
type Caller = Pick<KeyStatus, 'id' | 'kind'> & { readonly expiresAtMs: number | null };

const DAY_MS = 86_400_000;
const ENDING_MS = 14 * DAY_MS;
const UNUSED_MS = 30 * DAY_MS;
/** The page is read on a phone; GET /status has all keys. */
const MAX_NAMES = 5;

/** The keys and identities of a tenant. Tokens of an identity expire, it does not. */
export function callersOf({ keys, identities }: Pick<TenantSettings, 'keys' | 'identities'>): Caller[] {
  return [
    ...keys.map(({ id, expiresAtMs }) => ({ id, kind: 'key' as const, expiresAtMs })),
    ...identities.map(({ id }) => ({ id, kind: 'identity' as const, expiresAtMs: null })),
  ];
}

export function keyStatusOf({ id, kind, expiresAtMs }: Caller, use: KeyUse, now: EpochMs): KeyStatus {
  const lastUsed = lastMinuteOf(use);
  return {
    id,
    kind,
    expires: isoOf(expiresAtMs),
    expiresInMs: expiresAtMs === null ? null : Math.max(0, expiresAtMs - now),
    lastUsed: isoOf(lastUsed),
    unusedForMs: Math.max(0, now - (lastUsed ?? use.knownSince)),
  };
}

export function keyFindingsOf(tenants: Iterable<TenantSettings>, uses: KeyUses, now: EpochMs): KeyFindings {
  const found: Record<keyof KeyFindings, string[]> = { expired: [], ending: [], unused: [] };
  for (const each of tenants) {
    const { id: tenant, disabled } = each;
    if (disabled) continue;
    for (const key of callersOf(each)) {
      const { expiresInMs, unusedForMs } = keyStatusOf(key, uses.of(tenant, key.id), now);
      const finding =
        expiresInMs === 0
          ? found.expired
          : expiresInMs !== null && expiresInMs <= ENDING_MS
            ? found.ending
            : unusedForMs >= UNUSED_MS
              ? found.unused
              : null;
      finding?.push(`${tenant}/${key.id}`);
    }
  }
  return { expired: namesOf(found.expired), ending: namesOf(found.ending), unused: namesOf(found.unused) };
}

function namesOf(names: readonly string[]): KeyNames {
  return { count: names.length, first: names.slice(0, MAX_NAMES) };
}

function isoOf(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString();
}
