import { inProportion } from './advertised-limit.ts';
import { Bookings, DEFAULT_URGENCY, rankMsOf } from './bookings.ts';
import { BudgetCounts, type Charge } from './budgets.ts';
import { FairQueue, Reservations } from './fair-queue.ts';
import {
  type AccountQuota,
  type AccountView,
  type AdvertisedLimit,
  REMOVED_RETRY_MS,
  REMOVED_TENANT,
  type RejectedBy,
  type RejectedDecision,
  type SlotRequest,
  type TenantQuota,
  type TenantView,
} from './quota-store.ts';
import { type Lease, SlotSupply } from './slot-supply.ts';
import { TokenBucket } from './token-bucket.ts';

/** A request with all that it counts against. */
export interface AccountRequest extends SlotRequest {
  readonly charges?: readonly Charge[];
}

export type AccountDecision =
  | { readonly kind: 'admitted'; readonly lease: Lease }
  | ({ readonly kind: 'rejected' } & Omit<RejectedDecision, 'kind' | 'tenant' | 'budget'> & {
        /** For `budget`. The caller knows how long it is until the reset: `retryAfterMs` is 0. */
        readonly exhausted?: Charge;
      });

type AccountRejection = Extract<AccountDecision, { kind: 'rejected' }>;

interface TenantState {
  quota: TenantQuota;
  readonly bucket: TokenBucket;
  /** As of its latest request. */
  weight: number;
}

/** A slot that the next tenant does not take is given to another after this long: no shorter wait is worth telling. */
const MIN_WAIT_MS = 1;
/** An account that has rejected a request was not idle for so long after it. */
const CONTENDED_MS = 1_000;
/** The part of a slot that is left to tenants that have had less. */
const KEPT_BACK = 0.5;

/**
 * All that is counted for one account, in pure code: time comes in, decisions come out. Checks everything, then spends
 * everything; a rejection has spent nothing. Times are whole milliseconds of a clock that does not go back.
 *
 * This is the model of the scripts in adapters/redis, and decides for the memory store and for a replica without Redis.
 */
export class AccountState {
  #quota: AccountQuota;
  readonly #supply: SlotSupply;
  readonly #queue = new FairQueue();
  readonly #reservations = new Reservations();
  readonly #bookings = new Bookings();
  readonly #tenants = new Map<string, TenantState>();
  readonly #counts: BudgetCounts;

  /**
   * @param options.primed the minute before is known: see {@link SlotSupply}
   * @param options.counts of its budgets so far
   */
  constructor(
    quota: AccountQuota,
    tenants: ReadonlyMap<string, TenantQuota>,
    now: number,
    options: { readonly primed?: boolean; readonly counts?: BudgetCounts } = {},
  ) {
    this.#quota = quota;
    this.#supply = new SlotSupply(quota, now, options.primed ?? false);
    this.#counts = options.counts ?? new BudgetCounts();
    this.configure(quota, tenants, now);
  }

  /** Neither refills nor empties what is spent. Tenants that are gone are forgotten. */
  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>, now: number): void {
    this.#quota = quota;
    this.#supply.configure(quota, now);
    for (const id of this.#tenants.keys()) {
      if (tenants.has(id)) continue;
      this.#tenants.delete(id);
      this.#queue.forget(id);
      this.#reservations.forget(id);
      this.#bookings.forget(id);
    }
    for (const [id, each] of tenants) {
      const known = this.#tenants.get(id);
      if (known === undefined)
        this.#tenants.set(id, { quota: each, bucket: new TokenBucket(each, now), weight: each.weight });
      else {
        known.quota = each;
        known.bucket.configure(each, now);
      }
    }
    this.#reserve();
  }

  /** Slots that are reserved are lowered with the ceiling: they would take all of it from the others. */
  #reserve(): void {
    const reserving = [...this.#tenants].flatMap(([id, { quota }]): [string, number][] =>
      quota.reserved > 0 ? [[id, inProportion(quota.reserved, this.#quota, this.#supply.advertised)]] : [],
    );
    this.#reservations.configure(new Map(reserving));
  }

  /** @param withheld slots of the ceiling that are not to be given out now */
  admit(request: AccountRequest, now: number, withheld = 0): AccountDecision {
    this.#queue.expire(now);
    this.#bookings.expire(now);
    this.#supply.settle(now);
    const free = this.#supply.free(now, withheld, this.#reservations.keptForOthers(null, now));
    const slots = free - this.#reservations.keptForOthers(request.tenant, now);
    const { tenant, maxWaitMs, books = false, background = false, charges } = request;
    if (tenant === null) return this.#admitOwn(slots, now);
    const state = this.#tenants.get(tenant);
    if (state === undefined) return rejected('tenant', REMOVED_RETRY_MS);
    const { quota, bucket } = state;
    state.weight = quota.weight;
    const competing = this.#bookings.competing();
    const known = this.#bookings.waitingAt(tenant, request.place);
    const isNewcomer = known?.isNewcomer ?? !competing.includes(tenant);
    if (request.place !== undefined) this.#bookings.cancel(tenant, request.place);
    const place = known === undefined ? undefined : request.place;
    const exhausted = charges && this.#counts.exhausted(charges);
    if (exhausted !== undefined) {
      this.#leaveUnlessWaiting(tenant);
      return { ...rejected('budget', 0), exhausted };
    }
    const isAppointed = known === undefined && this.#bookings.use(tenant, now);
    const rank = known?.rank ?? now + rankMsOf(request.urgency ?? DEFAULT_URGENCY, isAppointed);
    const isExpected = known !== undefined || isAppointed;
    const virtualTime = this.#queue.virtualTimeOf(tenant, quota.weight);
    const at = { slots, virtualTime, rank, isExpected, isNewcomer, now };
    const rejection = this.#reject(state, { tenant, place, maxWaitMs, books, background }, at);
    if (rejection === null) {
      if (competing.length > 0) this.#bookings.admittedBeside(isNewcomer);
      bucket.take(now);
      if (charges !== undefined) this.#counts.charge(charges);
      this.#queue.admitted(tenant, virtualTime, quota.weight);
      this.#reservations.admitted(tenant, now);
    }
    this.#leaveUnlessWaiting(tenant);
    this.#supply.contend(rejection?.by === 'account' ? now + CONTENDED_MS : 0);
    this.#supply.contend(this.#queue.waitsUntil);
    return rejection ?? { kind: 'admitted', lease: this.#supply.lease(now) };
  }

  /** A request that waited asks no more. */
  cancel(tenant: string, place: number): void {
    this.#bookings.cancel(tenant, place);
    this.#leaveUnlessWaiting(tenant);
  }

  /** The request provably never left. Virtual time and reservation stay as they are: they even out within a minute. */
  refund(tenant: string | null, now: number, charges: readonly Charge[] = []): void {
    this.#supply.refund(now);
    this.#counts.refund(charges);
    if (tenant !== null) this.#tenants.get(tenant)?.bucket.giveBack(now);
  }

  /**
   * The headers of the response are here.
   *
   * @returns whether it names the limit that the account has, as far as is known; another one belongs to another counter
   */
  complete(lease: Lease, seen: AdvertisedLimit, now: number): boolean {
    const before = this.#supply.advertised;
    const isOurs = this.#supply.complete(lease, seen, now);
    if (this.#supply.advertised !== before) this.#reserve();
    return isOurs;
  }

  /** A response has shown what the minute before this state had used, or did not say so. */
  get isPrimed(): boolean {
    return this.#supply.isPrimed;
  }

  /** The limit that the upstream advertises; null: none is known. */
  get advertised(): number | null {
    return this.#supply.advertised;
  }

  /** No response came, and the request cannot arrive any more. */
  lose(now: number): void {
    this.#supply.lose(now);
  }

  view(now: number): AccountView {
    return this.#supply.view(now);
  }

  tenantView(tenant: string, now: number): TenantView {
    const known = this.#tenants.get(tenant);
    if (known === undefined) return REMOVED_TENANT;
    const { quota, bucket } = known;
    return { limit: quota.rate, burst: quota.burst, remaining: bucket.available(now), resetMs: bucket.fullMs(now) };
  }

  /** The gateway's own calls need a slot, and wait for no bucket and no other tenant. */
  #admitOwn(slots: number, now: number): AccountDecision {
    const cooldownMs = this.#supply.cooldownMs(now);
    const retryAfterMs = Math.max(cooldownMs, this.#supply.slotsMs(1, slots, now));
    if (retryAfterMs === 0) return { kind: 'admitted', lease: this.#supply.lease(now) };
    return rejected(cooldownMs > 0 ? 'cooldown' : 'account', retryAfterMs);
  }

  #reject(
    { quota, bucket }: TenantState,
    request: SlotRequest & { readonly tenant: string },
    at: {
      readonly slots: number;
      readonly virtualTime: number;
      readonly rank: number;
      /** It has a place or an appointment. */
      readonly isExpected: boolean;
      readonly isNewcomer: boolean;
      readonly now: number;
    },
  ): AccountRejection | null {
    const { tenant } = request;
    const { slots, virtualTime, rank, isExpected, isNewcomer, now } = at;
    const cooldownMs = this.#supply.cooldownMs(now);
    if (cooldownMs > 0) return rejected('cooldown', Math.max(cooldownMs, bucket.waitMs(1, now)));
    const waiting = this.#bookings.waiting(tenant, rank, request.place);
    if ((isExpected || waiting === 0) && bucket.waitMs(1, now) === 0) {
      if (slots >= 1 && !this.#supply.isCrowded(now) && this.#reservations.entitled(tenant, now)) return null;
      // Without an appointment it waits half a slot interval longer for tenants that have had less, and are about to come.
      const keptBack = isExpected || this.#competingAhead(tenant, virtualTime) === 0 ? 0 : KEPT_BACK;
      const available = this.#supply.available(slots, request.background === true, keptBack, now);
      if (available >= 1 && available > this.#queue.claimedAhead(virtualTime, now)) return null;
    }
    // With so many of its tenant before it.
    const estimate = (before: number): { readonly by: 'tenant' | 'account'; readonly waitMs: number } => {
      const ahead = this.#competingAhead(tenant, virtualTime + before / quota.weight);
      const accountMs = this.#supply.waitMs(before + ahead + 1, slots, now);
      const ownMs = bucket.waitMs(before + 1, now);
      return { by: ownMs > accountMs ? 'tenant' : 'account', waitMs: Math.max(ownMs, accountMs, MIN_WAIT_MS) };
    };
    const firstMs = Math.max(
      bucket.waitMs(waiting + 1, now),
      this.#supply.waitMs(this.#queue.ahead(virtualTime) + waiting + 1, slots, now),
    );
    const expected = estimate(isExpected ? waiting : this.#nextFree(request, waiting, estimate, now));
    const askAgainMs = Math.max(MIN_WAIT_MS, Math.min(firstMs, expected.waitMs));
    return this.#book(request, { ...expected, askAgainMs, virtualTime, rank, isNewcomer, now });
  }

  /**
   * How many of its tenant come before a request without an appointment: those that wait, and the appointments up to the last
   * that could not be kept if it were before them.
   */
  #nextFree(
    { tenant, maxWaitMs }: { readonly tenant: string; readonly maxWaitMs: number },
    waiting: number,
    estimate: (before: number) => { readonly waitMs: number },
    now: number,
  ): number {
    const appointments = this.#bookings.appointments(tenant);
    const firstMs = estimate(waiting).waitMs;
    const each = (estimate(waiting + appointments.length).waitMs - firstMs) / Math.max(1, appointments.length);
    for (let i = appointments.length; i > 0; i--) {
      const appointmentMs = this.#bookings.appointmentMs(firstMs + i * each, maxWaitMs, this.#supply.intervalMs);
      if ((appointments[i - 1] as number) - now < appointmentMs) return waiting + i;
    }
    return waiting;
  }

  /** Requests of other tenants that are served before a request at `virtualTime`, if all that compete come. */
  #competingAhead(tenant: string, virtualTime: number): number {
    let ahead = 0;
    for (const other of this.#bookings.competing()) {
      if (other === tenant) continue;
      const weight = this.#tenants.get(other)?.weight ?? 1;
      const lead = virtualTime - this.#queue.virtualTimeOf(other, weight);
      if (lead > 0) ahead += Math.ceil(lead * weight);
    }
    return ahead;
  }

  /** A place in the queue, or an appointment. */
  #book(
    { tenant, maxWaitMs, books = false, place }: SlotRequest & { readonly tenant: string },
    at: {
      readonly by: 'tenant' | 'account';
      readonly waitMs: number;
      readonly askAgainMs: number;
      readonly virtualTime: number;
      readonly rank: number;
      readonly isNewcomer: boolean;
      readonly now: number;
    },
  ): AccountRejection {
    const { by, waitMs, askAgainMs, virtualTime, isNewcomer, now, rank } = at;
    const rejection = { ...rejected(by, waitMs), askAgainMs };
    // It cannot use a slot: it is not in the others' way.
    if (by === 'tenant') this.#queue.leave(tenant);
    if (!books) return rejection;
    const competes = by === 'account';
    if (waitMs <= maxWaitMs) {
      if (competes) this.#queue.join(tenant, virtualTime, now + askAgainMs, now);
      const waiting = { rank, until: now + maxWaitMs, isNewcomer };
      const id = this.#bookings.wait(tenant, waiting, competes, place);
      return { ...rejection, place: id, rankMs: rank - now };
    }
    const appointmentMs = competes ? this.#bookings.appointmentMs(waitMs, maxWaitMs, this.#supply.intervalMs) : waitMs;
    const retryAfterMs = Math.max(1, Math.ceil(appointmentMs / 1000)) * 1000;
    if (!this.#bookings.appoint(tenant, now + retryAfterMs, competes)) return rejection;
    return { ...rejection, retryAfterMs, appointment: true };
  }

  #leaveUnlessWaiting(tenant: string): void {
    if (this.#bookings.waiting(tenant) === 0) this.#queue.leave(tenant);
  }
}

function rejected(by: RejectedBy, retryAfterMs: number): AccountRejection {
  return { kind: 'rejected', by, retryAfterMs, askAgainMs: retryAfterMs };
}
