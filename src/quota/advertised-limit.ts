import type { Log } from '../ports.ts';
import { type LeaseWindow, WINDOW_MS } from './lease-window.ts';
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

/** The X-RateLimit-Remaining of one response. Times are whole milliseconds. */
interface UsageObservation {
  /** Requests that the upstream has counted, this one included. */
  readonly used: number;
  readonly remaining: number;
  readonly admittedAt: number;
  /** {@link LeaseWindow.everCompleted} when it was admitted. */
  readonly completedBefore: number;
  /** {@link LeaseWindow.freed} then. The slots that are free since may be counted too, if the response was slow. */
  readonly freedBefore: number;
}

/**
 * Use of the account by others, as far as `X-RateLimit-Remaining` shows it.
 *
 * The upstream counts in a fixed window of 60 s. Of its count (`limit − remaining`), at most as many can be ours as we hold
 * slots that may have arrived in that window; the rest is external for certain. The estimate errs downwards only: without
 * external usage it is 0 whatever the latency, so nothing is lost. Once external usage is certain, `remaining` is believed to
 * the letter: no more requests are in flight than that.
 *
 * Within one upstream window external usage only grows, so the greatest estimate stands until the window must have ended:
 * 60 s after the observation at the latest, or when `remaining` has risen in a way that reordering cannot explain.
 */
export class ExternalUsage {
  #slots = 0;
  #remaining = Number.POSITIVE_INFINITY;
  #until = Number.NEGATIVE_INFINITY;
  /** The greatest count in the present upstream window, and when the request that showed it was admitted and answered. */
  #peakUsed = 0;
  #peakAdmittedAt = Number.NEGATIVE_INFINITY;
  #peakCompletedBefore = 0;
  #peakSeenAt = Number.POSITIVE_INFINITY;
  /**
   * The present upstream window opened between these two. Requests that were completed before the first are not counted in
   * it; requests that were admitted before the second may have been counted in the window before.
   */
  #openedAfterCompleted = 0;
  #openedBefore = Number.NEGATIVE_INFINITY;

  /**
   * @param window with the request's own slot still in flight
   * @param mostOwn the most of the count that can be ours
   */
  observe(seen: UsageObservation, window: LeaseWindow, now: number, mostOwn: number): void {
    const { used, remaining } = seen;
    // Within one window the count only grows. Responses overtake each other; but a request that was sent after the response
    // with the greatest count had arrived was counted after it, and if its count is no greater, a new window has begun.
    if (seen.admittedAt > this.#peakSeenAt && used <= this.#peakUsed) {
      this.#openedAfterCompleted = this.#peakCompletedBefore;
      this.#openedBefore = now;
      this.#peakUsed = 0;
      this.#clear();
    }
    if (used >= this.#peakUsed || now - this.#peakAdmittedAt > WINDOW_MS) {
      this.#peakUsed = used;
      this.#peakAdmittedAt = seen.admittedAt;
      this.#peakCompletedBefore = seen.completedBefore;
      this.#peakSeenAt = now;
    }
    if (now >= this.#until) this.#clear();
    const mayBeOfWindowBefore = seen.admittedAt < this.#openedBefore;
    const present = window.presentSince(seen.freedBefore, now);
    const inWindow = mayBeOfWindowBefore ? present : window.admittedAfter(this.#openedAfterCompleted);
    const own = Math.min(present, inWindow, mostOwn);
    const external = Math.max(0, used - own);
    if (external === 0 && this.#slots === 0) return;
    this.#remaining = Math.min(this.#remaining, remaining);
    if (external >= this.#slots) {
      this.#slots = external;
      this.#until = now + WINDOW_MS;
    }
  }

  /** Nothing is known, so all may be used until then. */
  assume(slots: number, until: number): void {
    this.#slots = slots;
    this.#until = until;
  }

  /** Slots that others use. */
  slots(now: number): number {
    return now < this.#until ? this.#slots : 0;
  }

  /** How many requests may be in flight together; infinite while no external usage is known. */
  remaining(now: number): number {
    return now < this.#until ? this.#remaining : Number.POSITIVE_INFINITY;
  }

  /** Until the estimate no longer stands. */
  endsInMs(now: number): number {
    return Math.max(0, this.#until - now);
  }

  #clear(): void {
    this.#slots = 0;
    this.#remaining = Number.POSITIVE_INFINITY;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
