import { LEASE_MS } from './lease-window.ts';
import type { AccountQuota, TenantQuota } from './quota-store.ts';

/** Consequences of the quotas of one account. Requests a minute, unless said otherwise. */
interface Capacity {
  /** Slots that are reserved for no tenant. */
  readonly unreserved: number;
  /** All tenants' own rates together. More than the ceiling is allowed, and means that they compete. */
  readonly rates: number;
  /** The share of each tenant when all want more than there is. */
  readonly shares: ReadonlyMap<string, number>;
}

export function capacityOf(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): Capacity {
  const sum = (pick: (quota: TenantQuota) => number): number =>
    [...tenants.values()].reduce((total, each) => total + pick(each), 0);
  return {
    unreserved: quota.ceiling - sum(({ reserved }) => reserved),
    rates: sum(({ rate }) => rate),
    shares: sharesOf(quota.ceiling, tenants),
  };
}

/** Requests a minute of an account that is always busy: a slot is held for the latency, and a lease after it. */
export function goodputAt(ceiling: number, latencyMs: number): number {
  return (ceiling * 60_000) / (LEASE_MS + latencyMs);
}

/** Slots that each of several replicas may hold without Redis. */
export function fallbackShare(ceiling: number, replicas: number): number {
  return Math.floor(ceiling / replicas);
}

/**
 * Max-min by weight: all get the same for their weight, but for those whose own rate is less, or whose reserved rate is more.
 * The level at which this adds up to the ceiling is found by halving.
 */
function sharesOf(ceiling: number, tenants: ReadonlyMap<string, TenantQuota>): Map<string, number> {
  const at = (level: number): Map<string, number> =>
    new Map(
      [...tenants].map(([id, { rate, weight, reserved }]) => [id, Math.min(rate, Math.max(reserved, level * weight))]),
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
