import type { Log } from '../ports.ts';
import type { AccountQuota } from './quota-store.ts';

/** So many responses in a row have to name a changed limit: a stray header, of another counter for example, changes nothing. */
const IN_A_ROW = 3;

/**
 * The limit that the upstream advertises in X-RateLimit-Limit. It changes only when the latest three responses all name a lower
 * one, or all a higher one; then it becomes the one of the three that is nearest to the limit before. completions.lua does
 * the same for all replicas together.
 */
export class AdvertisedLimitTracker {
  #latest: number[] = [];
  #current: number | null = null;

  /** Null until three responses in a row have named a limit. */
  get current(): number | null {
    return this.#current;
  }

  /**
   * @param named null: the response names none, which ends a row
   * @param limit the configured one, which counts until three responses have named one
   */
  observe(named: number | null, limit: number): void {
    this.#latest = named === null ? [] : [...this.#latest, named].slice(-IN_A_ROW);
    if (this.#latest.length < IN_A_ROW) return;
    this.#current = Math.min(Math.max(this.#current ?? limit, Math.min(...this.#latest)), Math.max(...this.#latest));
  }
}

/** The limit of the account, as far as is known: what a response names another limit with belongs to another counter. */
export function believedLimit({ limit, adoptLimit = true }: AccountQuota, advertised: number | null): number {
  return adoptLimit ? (advertised ?? limit) : limit;
}

/** A number of the account's quota, lowered as the limit is. */
export function inProportion(
  count: number,
  { limit, adoptLimit = true }: AccountQuota,
  advertised: number | null,
): number {
  if (!adoptLimit || advertised === null || advertised >= limit) return count;
  return Math.floor((count * advertised) / limit);
}

/**
 * The quota in force while the upstream advertises another limit: a lower one lowers all in proportion, a higher one changes
 * nothing. One slot is always left, so that the gateway notices when the limit rises again.
 */
export function effectiveQuota(quota: AccountQuota, advertised: number | null): AccountQuota {
  return {
    ...quota,
    limit: inProportion(quota.limit, quota, advertised),
    ceiling: Math.max(1, inProportion(quota.ceiling, quota, advertised)),
    burst: Math.max(1, inProportion(quota.burst, quota, advertised)),
  };
}

/** Reports that the upstream advertises another limit than before. @param before null: none was known */
export function reportLimitChange(
  account: string,
  { before, after }: { readonly before: number | null; readonly after: number | null },
  quota: AccountQuota,
  log: Log,
): void {
  if (after === null || after === before || (before === null && after === quota.limit)) return;
  const fields = { account, advertised: after, limit: quota.limit, ceiling: effectiveQuota(quota, after).ceiling };
  if (after < quota.limit) log.warn(fields, 'upstream advertises a lower limit than configured');
  else log.info(fields, 'upstream advertises at least the configured limit');
}
