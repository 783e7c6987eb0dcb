import { Cooldown } from './cooldown.ts';
import { ExternalUsage } from './external-usage.ts';
import { FairQueue } from './fair-queue.ts';
import { LeaseWindow } from './lease-window.ts';
import {
  type AccountQuota,
  type AccountView,
  type AdvertisedLimit,
  backgroundReserve,
  REMOVED_RETRY_MS,
  REMOVED_TENANT,
  type RejectedBy,
  type SlotRequest,
  type TenantQuota,
  type TenantView,
} from './quota-store.ts';
import { Reservations } from './reservations.ts';
import { TokenBucket } from './token-bucket.ts';

/** An admission; the completion of the request names it. */
export interface Lease {
  /** Whole milliseconds. */
  readonly admittedAt: number;
  /** {@link LeaseWindow.everCompleted} at that time. */
  readonly completedBefore: number;
}

export type AccountDecision =
  | { readonly kind: 'admitted'; readonly lease: Lease }
  | { readonly kind: 'rejected'; readonly by: RejectedBy; readonly retryAfterMs: number };

type AccountRejection = Extract<AccountDecision, { kind: 'rejected' }>;

interface TenantState {
  quota: TenantQuota;
  readonly bucket: TokenBucket;
}

/** A slot that the next tenant does not take is given to another after this long: no shorter wait is worth telling. */
const MIN_WAIT_MS = 1;

/**
 * All that is counted for one account, in pure code: time comes in, decisions come out. Checks everything, then spends
 * everything; a rejection has spent nothing. Times are whole milliseconds of a clock that does not go back.
 *
 * This is the model of the scripts in adapters/redis, and decides for the memory store and for a replica without Redis.
 */
export class AccountState {
  #quota: AccountQuota;
  readonly #window = new LeaseWindow();
  readonly #bucket: TokenBucket;
  readonly #external = new ExternalUsage();
  readonly #cooldown = new Cooldown();
  readonly #queue = new FairQueue();
  readonly #reservations = new Reservations();
  readonly #tenants = new Map<string, TenantState>();
  /** A response has shown how much the minute before this state had used. */
  #primed = false;

  /**
   * New state knows nothing of the minute before it, so the bucket starts empty, but for one request: its response shows
   * how much the minute before has used.
   */
  constructor(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>, now: number) {
    this.#quota = quota;
    this.#bucket = new TokenBucket(bucketSizeOf(quota), now, 1);
    this.configure(quota, tenants, now);
  }

  /** Neither refills nor empties what is spent. Tenants that are gone are forgotten. */
  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>, now: number): void {
    this.#quota = quota;
    this.#bucket.configure(bucketSizeOf(quota), now);
    for (const id of this.#tenants.keys()) {
      if (tenants.has(id)) continue;
      this.#tenants.delete(id);
      this.#queue.forget(id);
      this.#reservations.forget(id);
    }
    for (const [id, each] of tenants) {
      const known = this.#tenants.get(id);
      if (known === undefined) this.#tenants.set(id, { quota: each, bucket: new TokenBucket(each, now) });
      else {
        known.quota = each;
        known.bucket.configure(each, now);
      }
    }
    const reserving = [...tenants].filter(([, { reserved }]) => reserved > 0);
    this.#reservations.configure(new Map(reserving.map(([id, { reserved }]) => [id, reserved])));
  }

  /** @param withheld slots of the ceiling that are not to be given out now */
  admit(request: SlotRequest, now: number, withheld = 0): AccountDecision {
    this.#queue.expire(now);
    const free = this.#quota.ceiling - withheld - this.#window.held(now) - this.#external.slots(now);
    const slots = free - this.#reservations.keptForOthers(request.tenant, now);
    const { tenant } = request;
    if (tenant === null) return this.#admitOwn(slots, now);
    const state = this.#tenants.get(tenant);
    if (state === undefined) return { kind: 'rejected', by: 'tenant', retryAfterMs: REMOVED_RETRY_MS };
    const { quota, bucket } = state;
    const virtualTime = this.#queue.virtualTimeOf(tenant, quota.weight);
    const rejection = this.#reject(tenant, bucket, request, { slots, virtualTime, now });
    if (rejection !== null) return rejection;
    bucket.take(now);
    this.#queue.admitted(tenant, virtualTime, quota.weight);
    this.#reservations.admitted(tenant, now);
    return this.#lease(now);
  }

  /** No request of this tenant waits any more. */
  cancel(tenant: string): void {
    this.#queue.leave(tenant);
  }

  /** The request provably never left. Virtual time and reservation stay as they are: they even out within a minute. */
  refund(tenant: string | null, now: number): void {
    this.#window.release();
    this.#bucket.giveBack(now);
    if (tenant !== null) this.#tenants.get(tenant)?.bucket.giveBack(now);
  }

  /**
   * The headers of the response are here.
   *
   * @returns whether the advertised limit is the configured one; another one belongs to another counter
   */
  complete(lease: Lease, seen: AdvertisedLimit, now: number): boolean {
    const { limit, ceiling } = this.#quota;
    const isOurs = seen.limit === null || seen.limit === limit;
    if (isOurs && seen.remaining !== null && seen.remaining <= limit) {
      const used = limit - seen.remaining;
      this.#external.observe({ used, remaining: seen.remaining, ...lease }, this.#window, now);
      // Requests that the upstream has not counted in its present window were not sent in it, by this process or the one before.
      if (!this.#primed) this.#bucket.raiseTo(ceiling - used, now);
      this.#primed = true;
    }
    if (seen.throttled !== null) this.#cooldown.throttled(seen.throttled.retryAfterMs, lease.admittedAt, now);
    else this.#cooldown.responded(lease.admittedAt);
    this.#window.complete(now);
    return isOurs;
  }

  /** No response came, and the request cannot arrive any more. */
  lose(now: number): void {
    this.#window.complete(now);
  }

  view(now: number): AccountView {
    return {
      limit: this.#quota.limit,
      ceiling: this.#quota.ceiling,
      slotsInUse: this.#window.held(now),
      externalUsage: this.#external.slots(now),
      cooldownMs: this.#cooldown.leftMs(now),
      replicas: 1,
    };
  }

  tenantView(tenant: string, now: number): TenantView {
    const known = this.#tenants.get(tenant);
    if (known === undefined) return REMOVED_TENANT;
    const { quota, bucket } = known;
    return { limit: quota.rate, burst: quota.burst, remaining: bucket.available(now), resetMs: bucket.fullMs(now) };
  }

  /** The gateway's own calls need a slot, and wait for no bucket and no other tenant. */
  #admitOwn(slots: number, now: number): AccountDecision {
    const cooldownMs = this.#cooldown.leftMs(now);
    const retryAfterMs = Math.max(cooldownMs, this.#slotsMs(1, slots, now));
    if (retryAfterMs === 0) return this.#lease(now);
    return { kind: 'rejected', by: cooldownMs > 0 ? 'cooldown' : 'account', retryAfterMs };
  }

  #reject(
    tenant: string,
    bucket: TokenBucket,
    { maxWaitMs, background = false }: SlotRequest,
    { slots, virtualTime, now }: { readonly slots: number; readonly virtualTime: number; readonly now: number },
  ): AccountRejection | null {
    const cooldownMs = this.#cooldown.leftMs(now);
    const tenantMs = bucket.waitMs(1, now);
    if (cooldownMs > 0) return { kind: 'rejected', by: 'cooldown', retryAfterMs: Math.max(cooldownMs, tenantMs) };
    if (tenantMs > 0) {
      // It cannot use a slot: it is not in the others' way.
      this.#queue.leave(tenant);
      return { kind: 'rejected', by: 'tenant', retryAfterMs: Math.max(tenantMs, this.#accountMs(1, slots, now)) };
    }
    const spare = background ? backgroundReserve(this.#quota) : 0;
    const available = this.#isCrowded(now) ? 0 : Math.min(slots, this.#bucket.available(now)) - spare;
    const isNext = available > this.#queue.claimedAhead(virtualTime, now);
    if (available >= 1 && (isNext || this.#reservations.entitled(tenant, now))) return null;
    const places = this.#queue.ahead(virtualTime) + 1;
    const retryAfterMs = Math.max(this.#accountMs(places, slots, now), MIN_WAIT_MS);
    if (retryAfterMs <= maxWaitMs) this.#queue.join(tenant, virtualTime, now + retryAfterMs);
    return { kind: 'rejected', by: 'account', retryAfterMs };
  }

  #lease(now: number): AccountDecision {
    const lease = { admittedAt: now, completedBefore: this.#window.everCompleted };
    this.#window.lease();
    this.#bucket.take(now);
    return { kind: 'admitted', lease };
  }

  /** As many requests are in flight as the upstream had left beside external usage. */
  #isCrowded(now: number): boolean {
    return this.#window.inFlight >= this.#external.remaining(now);
  }

  /** Until the account has slots and tokens for so many. */
  #accountMs(places: number, slots: number, now: number): number {
    return Math.max(this.#slotsMs(places, slots, now), this.#bucket.waitMs(places, now));
  }

  /** Until so many slots are free, of which `slots` are now. */
  #slotsMs(places: number, slots: number, now: number): number {
    const externalMs = this.#external.endsInMs(now);
    // Either our own slots run out, or the estimate of the others' does.
    if (this.#isCrowded(now)) return externalMs;
    if (slots >= places) return 0;
    const freeMs = this.#window.freeInMs(places - slots, now);
    return this.#external.slots(now) === 0 ? freeMs : Math.min(freeMs, externalMs);
  }
}

/** The account's bucket is refilled at the ceiling. */
function bucketSizeOf({ ceiling, burst }: AccountQuota): { rate: number; burst: number } {
  return { rate: ceiling, burst };
}
