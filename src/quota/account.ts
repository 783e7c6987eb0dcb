import type { MonotonicMs } from '../clock.ts';
import { TokenBucket } from './bucket.ts';
import { ForeignUse } from './foreign.ts';
import { Hold } from './hold.ts';
import type { AccountQuota, AccountView, RefusedBy, TenantQuota, TenantView, UpstreamLimit } from './ledger.ts';
import { LeasedWindow } from './window.ts';

export type Check =
  | { readonly ok: true }
  | { readonly ok: false; readonly by: RefusedBy; readonly retryAfterMs: number };

const ADMITTED: Check = { ok: true };

/** A tenant's bucket with the quota it was made from. */
export interface TenantState {
  quota: TenantQuota;
  readonly bucket: TokenBucket;
}

/**
 * All that is counted for one account, in pure code: time comes in, decisions come out. Checks everything, then spends
 * everything; a refusal has spent nothing.
 */
export class AccountState {
  #quota: AccountQuota;
  readonly #window = new LeasedWindow();
  readonly #bucket: TokenBucket;
  readonly #foreign = new ForeignUse();
  readonly #hold = new Hold();
  #observed = false;
  readonly tenants = new Map<string, TenantState>();

  /**
   * Embedded state knows nothing of the minute before it started, so the bucket starts empty, but for one request: its
   * answer tells what the minute before has used.
   */
  constructor(quota: AccountQuota, now: MonotonicMs) {
    this.#quota = quota;
    this.#bucket = new TokenBucket(quota.ceiling, quota.burst, now, 1);
  }

  configure(quota: AccountQuota, now: MonotonicMs): void {
    this.#quota = quota;
    this.#bucket.configure(quota.ceiling, quota.burst, now);
  }

  /** @param tenant null for the gateway's own calls: they need a slot of the window, and are not paced */
  check(tenant: TenantState | null, now: MonotonicMs): Check {
    const holdMs = this.#hold.heldForMs(now);
    const tenantMs = tenant === null ? 0 : tenant.bucket.nextMs(now);
    const accountMs = Math.max(this.#windowMs(now), tenant === null ? 0 : this.#bucket.nextMs(now));
    if (holdMs === 0 && tenantMs === 0 && accountMs === 0) return ADMITTED;
    const by: RefusedBy = holdMs > 0 ? 'hold' : tenantMs > 0 ? 'tenant' : 'account';
    return { ok: false, by, retryAfterMs: Math.ceil(Math.max(holdMs, tenantMs, accountMs)) };
  }

  spend(tenant: TenantState | null, now: MonotonicMs): void {
    this.#window.lease();
    this.#bucket.take(now);
    tenant?.bucket.take(now);
  }

  refund(tenant: TenantState | null, now: MonotonicMs): void {
    this.#window.release();
    this.#bucket.giveBack(now);
    tenant?.bucket.giveBack(now);
  }

  /** @returns whether the limit the answer spoke of is the one configured; another one is another counter's */
  settle(admittedAt: MonotonicMs, at: MonotonicMs, seen: UpstreamLimit, now: MonotonicMs): boolean {
    const { limit } = this.#quota;
    const ours = seen.limit === null || seen.limit === limit;
    if (ours && seen.remaining !== null && seen.remaining <= limit) {
      const used = limit - seen.remaining;
      this.#foreign.observe({ used, remaining: seen.remaining, admittedAt, at }, this.#window);
      if (!this.#observed) {
        this.#observed = true;
        // What upstream has not counted in its present window was not sent in it, by this process or the one before.
        this.#bucket.raiseTo(this.#quota.ceiling - used, now);
      }
    }
    if (seen.throttled !== null) this.#hold.throttle(seen.throttled.retryAfterMs, admittedAt, now);
    else this.#hold.answered(admittedAt);
    this.#window.settle(at);
    return ours;
  }

  lose(latestArrival: MonotonicMs): void {
    this.#window.settle(latestArrival);
  }

  view(now: MonotonicMs): AccountView {
    return {
      limit: this.#quota.limit,
      ceiling: this.#quota.ceiling,
      slotsInUse: this.#window.held(now),
      slotsForeign: this.#foreign.slots(now),
      heldForMs: this.#hold.heldForMs(now),
    };
  }

  /** Until a slot is free; 0 if there is one. */
  #windowMs(now: MonotonicMs): number {
    const foreign = this.#foreign.slots(now);
    const over = this.#window.held(now) + foreign - this.#quota.ceiling + 1;
    const crowded = this.#window.inFlight >= this.#foreign.left(now);
    if (over <= 0 && !crowded) return 0;
    if (foreign === 0) return this.#window.freeInMs(over, now);
    const freed = over <= 0 ? 0 : this.#window.freeInMs(over, now);
    // Either our own slots run out, or the estimate of the others' does.
    return crowded ? this.#foreign.passesInMs(now) : Math.min(freed, this.#foreign.passesInMs(now));
  }
}

export function viewOf(tenant: TenantState, now: MonotonicMs): TenantView {
  const { quota, bucket } = tenant;
  return { limit: quota.rate, burst: quota.burst, remaining: bucket.available(now), resetMs: bucket.fullMs(now) };
}
