import { AdvertisedLimitTracker, believedLimit, ExternalUsage, effectiveQuota } from './advertised-limit.ts';
import { LEASE_MS, LeaseWindow, WINDOW_MS } from './lease-window.ts';
import { Pacing } from './pacing.ts';
import type { AccountQuota, AccountView, AdvertisedLimit } from './quota-store.ts';
import { TokenBucket } from './token-bucket.ts';

/** An admission; the completion of the request names it. */
export interface Lease {
  /** Whole milliseconds. */
  readonly admittedAt: number;
  /** {@link LeaseWindow.everCompleted} at that time. */
  readonly completedBefore: number;
  /** {@link LeaseWindow.freed} at that time. */
  readonly freedBefore: number;
}

/** @returns a function that is true at its first call */
export function firstCall(): () => boolean {
  let called = false;
  return () => {
    const isFirst = !called;
    called = true;
    return isFirst;
  };
}

/** The other requests wait so long for the first response of new state, and ask for it so often. */
const FIRST_RESPONSE_MS = 2_000;
const ASK_FOR_FIRST_MS = 100;

/** The cooldown after a 429 without a Retry-After. */
const DEFAULT_COOLDOWN_MS = 10_000;
const MAX_DEFAULT_COOLDOWN_MS = 60_000;
/** An upstream that rounds down says 0 in the last second of its window (docs/failure-modes.md#upstream_cooldown). */
const MIN_RETRY_AFTER_MS = 1_000;
/** A Retry-After below that counts for this part of a missing one: a second, doubling to six. */
const VAGUE_PART = 10;
/** A longer Retry-After is not believed: a broken header must not stop a team for a day. */
const MAX_RETRY_AFTER_MS = 3_600_000;

const NEVER = -1;

/**
 * The slots of one account: how many may be given out now, and when there will be more. Times are whole
 * milliseconds of a clock that does not go back.
 */
export class SlotSupply {
  #configured: AccountQuota;
  /** As configured, or lower while the upstream advertises a lower limit. */
  #quota: AccountQuota;
  readonly #advertised = new AdvertisedLimitTracker();
  readonly #window = new LeaseWindow();
  /** Credit for a burst after an idle time. */
  readonly #bucket: TokenBucket;
  readonly #external = new ExternalUsage();
  readonly #cooldown = new Cooldown();
  readonly #pacing: Pacing;
  #primed: boolean;
  readonly #startedAt: number;
  #firstAdmittedAt = Number.POSITIVE_INFINITY;
  /** Until then requests wait, or were rejected a moment ago: the account gains nothing for a burst. */
  #contendedUntil = 0;

  /**
   * New state knows nothing of the minute before it, so the bucket starts empty, and one request is sent alone: its response
   * shows how much the minute before has used.
   *
   * @param primed the minute before is known
   */
  constructor(quota: AccountQuota, now: number, primed: boolean) {
    this.#configured = quota;
    this.#quota = quota;
    this.#primed = primed || quota.coldStart === 'idle';
    this.#startedAt = now;
    this.#bucket = new TokenBucket(bucketSizeOf(quota), now, quota.coldStart === 'idle' ? quota.burst : 0);
    this.#pacing = new Pacing(now);
  }

  /** Neither refills nor empties what is spent. */
  configure(configured: AccountQuota, now: number): void {
    this.#configured = configured;
    this.#apply(effectiveQuota(configured, this.#advertised.current), now);
  }

  /** The latest limit of the upstream; null: none is known. */
  get advertised(): number | null {
    return this.#advertised.current;
  }

  #apply(quota: AccountQuota, now: number): void {
    if (quota.ceiling !== this.#quota.ceiling) this.#pacing.reset();
    this.settle(now);
    this.#quota = quota;
    this.#bucket.configure(bucketSizeOf(quota), now);
  }

  /** A response has shown what the minute before this state had used, or did not say so. */
  get isPrimed(): boolean {
    return this.#primed;
  }

  cooldownMs(now: number): number {
    return this.#cooldown.leftMs(now);
  }

  /** Between two slots, where all of the ceiling is used. */
  get intervalMs(): number {
    return WINDOW_MS / this.#quota.ceiling;
  }

  /**
   * Slots that are free now, and the pace for them.
   *
   * @param withheld slots of the ceiling that are not to be given out now
   * @param reserved slots that are kept for some tenants
   */
  free(now: number, withheld: number, reserved: number): number {
    const usable = this.#quota.ceiling - withheld;
    const external = this.#external.slots(now);
    const free = usable - this.#window.held(now) - external;
    const externalEndsInMs = this.#external.endsInMs(now);
    this.#pacing.update({ usable, free: free - reserved, external, externalEndsInMs, window: this.#window }, now);
    return free;
  }

  /** Credits what an idle account has gained until now. */
  settle(now: number): void {
    this.#bucket.skip(Math.min(now, this.#contendedUntil));
  }

  /** The account is not idle until then. */
  contend(until: number): void {
    this.#contendedUntil = Math.max(this.#contendedUntil, until);
  }

  /** As many requests are in flight as the upstream had left beside external usage. */
  isCrowded(now: number): boolean {
    return this.#window.inFlight >= this.#external.remaining(now);
  }

  /**
   * The part of `slots` that may be given out now: at the account's pace, or as a burst of an account that was idle.
   *
   * @param keptBack a part of a slot that is left to others
   */
  available(slots: number, background: boolean, keptBack: number, now: number): number {
    if (this.isCrowded(now) || this.#awaitsFirstResponse(now)) return 0;
    // A request that no caller waits for takes nothing from a pace that others need.
    const spare = background ? backgroundReserve(this.#quota) : 0;
    if (spare > 0) return now < this.#contendedUntil ? 0 : Math.min(slots, this.#burst(now)) - spare;
    const burst = this.#burst(now) - Math.ceil(keptBack);
    return Math.min(slots, Math.max(burst, this.#pacing.available(now, keptBack)));
  }

  /** Until the account has slots for so many, at its pace. */
  waitMs(places: number, slots: number, now: number): number {
    if (this.#awaitsFirstResponse(now) && places <= this.#quota.burst) return ASK_FOR_FIRST_MS;
    const pacedMs = places <= this.#burst(now) ? 0 : this.#pacing.waitMs(places, now);
    return Math.max(this.slotsMs(places, slots, now), pacedMs);
  }

  /** Until so many slots are free, of which `slots` are now. */
  slotsMs(places: number, slots: number, now: number): number {
    const externalMs = this.#external.endsInMs(now);
    // Either our own slots run out, or the estimate of the others' does.
    if (this.isCrowded(now)) return externalMs;
    if (slots >= places) return 0;
    const freeMs = this.#window.freeInMs(places - slots, now);
    return this.#external.slots(now) === 0 ? freeMs : Math.min(freeMs, externalMs);
  }

  lease(now: number): Lease {
    const { everCompleted } = this.#window;
    const lease = { admittedAt: now, completedBefore: everCompleted, freedBefore: this.#window.freed(now) };
    if (this.#window.held(now) === 0) this.#firstAdmittedAt = now;
    this.#window.lease();
    this.#bucket.take(now);
    this.#pacing.admitted(now);
    return lease;
  }

  refund(now: number): void {
    this.settle(now);
    this.#window.release();
    this.#bucket.giveBack(now);
    this.#pacing.refund();
  }

  /** The headers of the response are here. @returns whether it names the limit that the account has, as far as is known */
  complete(lease: Lease, seen: AdvertisedLimit, now: number): boolean {
    const before = this.#advertised.current;
    this.#advertised.observe(seen.limit, this.#configured.limit);
    if (this.#advertised.current !== before)
      this.#apply(effectiveQuota(this.#configured, this.#advertised.current), now);
    const limit = believedLimit(this.#configured, this.#advertised.current);
    const isOurs = seen.limit === null || seen.limit === limit;
    if (isOurs && seen.remaining !== null && seen.remaining <= limit) {
      const observation = { used: limit - seen.remaining, remaining: seen.remaining, ...lease };
      // Requests that are still in flight beside the first response may not be counted in it.
      const mostOwn = this.#primed ? Number.POSITIVE_INFINITY : this.#window.everCompleted + 1;
      const externalBefore = this.#external.slots(now);
      this.#external.observe(observation, this.#window, now, mostOwn);
      if (this.#external.slots(now) !== externalBefore) this.#pacing.reset();
    } else if (!this.#primed && this.#quota.coldStart === 'wait')
      this.#external.assume(this.#quota.ceiling, this.#startedAt + LEASE_MS);
    this.#prime(now);
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
      limit: this.#configured.limit,
      advertisedLimit: this.#advertised.current,
      ceiling: this.#quota.ceiling,
      slotsInUse: this.#window.held(now),
      externalUsage: this.#external.slots(now),
      cooldownMs: this.#cooldown.leftMs(now),
      replicas: 1,
    };
  }

  #burst(now: number): number {
    return Math.min(this.#bucket.available(now), this.#pacing.headroom);
  }

  /** A response shows what the minute before has left, or does not say so: then the account is taken for idle. */
  #prime(now: number): void {
    if (this.#primed) return;
    this.#primed = true;
    this.#bucket.raiseTo(this.#quota.burst, now);
    this.#pacing.reset();
  }

  /** New state sends one request alone, for a while. */
  #awaitsFirstResponse(now: number): boolean {
    return !this.#primed && this.#window.inFlight > 0 && now - this.#firstAdmittedAt < FIRST_RESPONSE_MS;
  }
}

/** Slots and tokens of an account that background requests leave to those with a caller. */
function backgroundReserve({ ceiling, burst }: AccountQuota): number {
  return Math.min(Math.ceil(ceiling / 10), Math.floor(burst / 2));
}

/** The account's bucket is refilled at the ceiling. */
function bucketSizeOf({ ceiling, burst }: AccountQuota): { rate: number; burst: number } {
  return { rate: ceiling, burst };
}

/** An upstream that says 0 again and again would be asked as often. */
const isVague = (retryAfterMs: number | null): boolean => retryAfterMs === null || retryAfterMs < MIN_RETRY_AFTER_MS;

/** Length of the cooldown after a 429; `defaultMs` after one without a Retry-After. As in completions.lua. */
export function cooldownAfter(retryAfterMs: number | null, defaultMs = DEFAULT_COOLDOWN_MS): number {
  if (retryAfterMs === null) return defaultMs;
  return isVague(retryAfterMs) ? defaultMs / VAGUE_PART : Math.min(retryAfterMs, MAX_RETRY_AFTER_MS);
}

/** The time without sending after a 429: a later 429 may extend it, never shorten it. Times are whole milliseconds. */
export class Cooldown {
  #until = 0;
  /** When the latest 429 came; {@link NEVER} since another response. */
  #throttledAt = NEVER;
  #defaultMs = DEFAULT_COOLDOWN_MS;

  /**
   * @param retryAfterMs as the upstream said, or null
   * @param admittedAt of the throttled request: several that were under way together are one 429, not a series
   */
  throttled(retryAfterMs: number | null, admittedAt: number, now: number): void {
    if (isVague(retryAfterMs) && this.#throttledAt !== NEVER && admittedAt > this.#throttledAt) {
      this.#defaultMs = Math.min(this.#defaultMs * 2, MAX_DEFAULT_COOLDOWN_MS);
    }
    this.#throttledAt = now;
    this.#until = Math.max(this.#until, now + cooldownAfter(retryAfterMs, this.#defaultMs));
  }

  /** A response that was no 429. */
  responded(admittedAt: number): void {
    if (admittedAt <= this.#throttledAt) return;
    this.#defaultMs = DEFAULT_COOLDOWN_MS;
    this.#throttledAt = NEVER;
  }

  leftMs(now: number): number {
    return Math.max(0, this.#until - now);
  }
}
