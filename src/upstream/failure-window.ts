import type { MonotonicMs } from '../clock.ts';

/** Where an attempt came from and what it asked for. */
export interface Source {
  readonly tenant: string;
  readonly resource: string;
}

export interface Attempt extends Source {
  readonly at: MonotonicMs;
  readonly failed: boolean;
}

export interface FailureRules {
  /** The breaker opens when this share of the attempts in the window has failed, and one caller alone is not the reason. */
  readonly failurePercent: number;
  /** With fewer attempts in the window the breaker stays closed. */
  readonly minRequests: number;
}

interface Tally {
  attempts: number;
  failures: number;
}

/** Only the latest count: they say enough about an upstream. Callers can invent resources, so memory has a bound. */
export const MAX_ATTEMPTS = 1_000;
/** Attempts of other tenants that show whether the failures are those of one tenant: as many as close the breaker. */
const EVIDENCE = 2;

/**
 * The tenants with failures, if the attempts of a window show that the upstream fails; else null. Failures of one tenant with one
 * resource do not show it, unless no other attempt is there to compare; and the attempts of all other tenants together must fail
 * too, as soon as there are enough.
 */
export function tenantsOfOutage(
  attempts: readonly Attempt[],
  { minRequests, failurePercent }: FailureRules,
): ReadonlySet<string> | null {
  const all = { attempts: 0, failures: 0 };
  const byTenant = new Map<string, Tally>();
  const byResource = new Map<string, Tally>();
  for (const { tenant, resource, failed } of attempts) {
    for (const tally of [all, tallyIn(byTenant, tenant), tallyIn(byResource, resource)]) {
      tally.attempts += 1;
      tally.failures += failed ? 1 : 0;
    }
  }
  const hasFailed = (tally: Tally): boolean => tally.failures * 100 >= tally.attempts * failurePercent;
  if (all.attempts < Math.min(minRequests, MAX_ATTEMPTS) || !hasFailed(all)) return null;
  const tenants = failingIn(byTenant);
  if (byTenant.size > 1 || byResource.size > 1) {
    if (tenants.length < 2 && failingIn(byResource).length < 2) return null;
    const worst = [...byTenant.values()].reduce((a, b) => (b.failures > a.failures ? b : a));
    const others = { attempts: all.attempts - worst.attempts, failures: all.failures - worst.failures };
    if (others.attempts >= EVIDENCE && !hasFailed(others)) return null;
  }
  return new Set(tenants);
}

function failingIn(tallies: ReadonlyMap<string, Tally>): string[] {
  return [...tallies].filter(([, { failures }]) => failures > 0).map(([name]) => name);
}

function tallyIn(tallies: Map<string, Tally>, name: string): Tally {
  const tally = tallies.get(name) ?? { attempts: 0, failures: 0 };
  tallies.set(name, tally);
  return tally;
}
