import type { AccountQuota, TenantQuota } from './ledger.ts';
import { LEASE_MS } from './window.ts';

/** What follows from the quotas of one account by calculation alone. Requests a minute, unless said otherwise. */
export interface Arithmetic {
  /** Slots that nobody is guaranteed. */
  readonly unguaranteed: number;
  /** All tenants' own rates together: more than the ceiling is allowed, and means that they compete. */
  readonly rates: number;
  /** What each tenant gets when all want more than there is. */
  readonly shares: ReadonlyMap<string, number>;
}

export function arithmeticOf(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): Arithmetic {
  const sum = (pick: (quota: TenantQuota) => number): number =>
    [...tenants.values()].reduce((total, each) => total + pick(each), 0);
  return {
    unguaranteed: quota.ceiling - sum(({ reserved: guarantee }) => guarantee),
    rates: sum(({ rate }) => rate),
    shares: sharesOf(quota.ceiling, tenants),
  };
}

export function goodputAt(ceiling: number, latencyMs: number): number {
  return (ceiling * 60_000) / (LEASE_MS + latencyMs);
}

/** What each of several replicas may hold that have lost Redis. */
export function shareAlone(ceiling: number, replicas: number): number {
  return Math.floor(ceiling / replicas);
}

/**
 * Max-min by weight: all get the same for their weight, but for those whose own rate is less, or whose guarantee is more.
 * The level at which this adds up to the ceiling is found by halving.
 */
function sharesOf(ceiling: number, tenants: ReadonlyMap<string, TenantQuota>): Map<string, number> {
  const at = (level: number): Map<string, number> =>
    new Map(
      [...tenants].map(([id, { rate, weight, reserved: guarantee }]) => [
        id,
        Math.min(rate, Math.max(guarantee, level * weight)),
      ]),
    );
  let low = 0;
  let high = Math.max(0, ...[...tenants.values()].map(({ rate, weight }) => rate / weight));
  if (total(at(high)) <= ceiling) return at(high);
  for (let i = 0; i < 60; i++) {
    const level = (low + high) / 2;
    if (total(at(level)) <= ceiling) low = level;
    else high = level;
  }
  return at(low);
}

function total(shares: ReadonlyMap<string, number>): number {
  return [...shares.values()].reduce((sum, each) => sum + each, 0);
}
