import type { Settings } from '../config/model.ts';
import type {
  AccountStatus,
  CacheStatus,
  CredentialStatus,
  Frame,
  Standing,
  StateStatus,
  TenantStatus,
  UpstreamStatus,
  Use,
} from '../edge/status-document.ts';
import type { StatusPart } from '../gateway/status.ts';
import { busiestOf, withId } from '../gateway/status-parts.ts';

/**
 * How several workers stand as one: what each of them counted is added up; of what Redis tells all of them, one a moment later
 * than another, the greatest counts, as it does on the dashboards among replicas.
 */
export function mergeAccounts(settings: Settings, parts: readonly Standing[]): Record<string, AccountStatus> {
  return Object.fromEntries(
    [...settings.accounts.values()].map(({ id, quota }) => {
      const all = parts.flatMap(({ accounts }) => accounts[id] ?? []);
      const merged: AccountStatus = {
        limit: quota.limit,
        ceiling: quota.ceiling,
        slotsInUse: greatest(all, (each) => each.slotsInUse),
        slotsForeign: greatest(all, (each) => each.slotsForeign),
        heldForMs: greatest(all, (each) => each.heldForMs),
        waiting: sum(all, (each) => each.waiting),
        replicas: greatest(all, (each) => each.replicas),
        credentials: mergeCredentials(all.map(({ credentials }) => credentials)),
      };
      return [id, merged];
    }),
  );
}

/** One that rests or fails in one worker does so for whoever reads this. */
function mergeCredentials(all: readonly (readonly CredentialStatus[])[]): CredentialStatus[] {
  const [first = []] = all;
  return first.map(({ id, kind }) => {
    const same = all.flatMap((each) => each.find((credential) => credential.id === id) ?? []);
    const restsForMs = greatest(same, (each) => each.restsForMs);
    const lives = same.flatMap(({ expiresInMs }) => expiresInMs ?? []);
    return {
      id,
      kind,
      inUse: same.some(({ inUse }) => inUse),
      failing: same.some(({ failing }) => failing),
      restsForMs,
      why: same.find((each) => each.restsForMs === restsForMs)?.why ?? null,
      expiresInMs: lives.length === 0 ? null : Math.min(...lives),
    };
  });
}

/** The worst first. */
const BREAKERS = ['open', 'half-open', 'closed'] as const;

/** Each worker has a breaker of its own: one that is open in one of them refuses that one's callers. */
export function mergeUpstreams(settings: Settings, parts: readonly Standing[]): Record<string, UpstreamStatus> {
  return Object.fromEntries(
    [...settings.upstreams.keys()].map((id) => {
      const all = parts.flatMap(({ upstreams }) => upstreams[id] ?? []);
      const merged: UpstreamStatus = {
        breaker: BREAKERS.find((worst) => all.some(({ breaker }) => breaker === worst)) ?? 'closed',
        openForMs: greatest(all, (each) => each.openForMs),
        inFlight: sum(all, (each) => each.inFlight),
        waiting: sum(all, (each) => each.waiting),
      };
      return [id, merged];
    }),
  );
}

export function mergeUse(all: readonly Use[]): Use {
  return {
    requests: sum(all, (each) => each.requests),
    refused: sum(all, (each) => each.refused),
    saved: sum(all, (each) => each.saved),
  };
}

export function mergeCache(settings: Settings, parts: readonly Standing[]): CacheStatus {
  const all = parts.map(({ cache }) => cache);
  const inTouch = (account: string) => all.every((each) => each.inTouch[account] !== false);
  return {
    entries: sum(all, (each) => each.entries),
    bytes: sum(all, (each) => each.bytes),
    maxBytes: settings.cache.memoryBytes,
    inTouch: Object.fromEntries([...settings.accounts.keys()].map((id) => [id, inTouch(id)])),
    recent: { reads: sum(all, (each) => each.recent.reads), hits: sum(all, (each) => each.recent.hits) },
  };
}

export function mergeState(parts: readonly Standing[]): StateStatus {
  const all = parts.map(({ state }) => state);
  return { kind: 'redis', up: all.every(({ up }) => up), fallback: all.some(({ fallback }) => fallback) };
}

export function mergeTenants(
  all: readonly Readonly<Record<string, TenantStatus>>[],
): readonly (readonly [string, TenantStatus])[] {
  const ids = new Set(all.flatMap((each) => Object.keys(each)));
  return [...ids].map((id) => [id, mergeTenant(all.flatMap((each) => each[id] ?? []))]);
}

function mergeTenant(all: readonly TenantStatus[]): TenantStatus {
  const [first] = all;
  if (first === undefined) throw new Error('no worker knows this tenant');
  return {
    account: first.account,
    disabled: first.disabled,
    quota: {
      limit: first.quota.limit,
      burst: first.quota.burst,
      remaining: Math.min(...all.map(({ quota }) => quota.remaining)),
      resetMs: greatest(all, ({ quota }) => quota.resetMs),
    },
    waiting: sum(all, (each) => each.waiting),
    recent: mergeUse(all.map(({ recent }) => recent)),
  };
}

/** Exact as long as no worker has more active tenants than it tells of by name. */
export function mergeBusiest(count: number, parts: readonly StatusPart[]): Frame['tenants'] {
  const byName = parts.map(({ tenants }) => Object.fromEntries(tenants.busiest.map(({ id, ...each }) => [id, each])));
  const rests = parts.map(({ tenants }) => tenants.rest);
  const { busiest, rest } = busiestOf(mergeTenants(byName).map(withId));
  return {
    count,
    busiest,
    rest: { ...mergeUse([rest, ...rests]), waiting: sum([rest, ...rests], (each) => each.waiting) },
  };
}

function sum<T>(all: readonly T[], of: (each: T) => number): number {
  return all.reduce((total, each) => total + of(each), 0);
}

function greatest<T>(all: readonly T[], of: (each: T) => number): number {
  return all.reduce((most, each) => Math.max(most, of(each)), 0);
}
