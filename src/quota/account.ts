import { TokenBucket } from './bucket.ts';
import { ForeignUse } from './foreign.ts';
import { Guarantees } from './guarantees.ts';
import { Hold } from './hold.ts';
import {
  type AccountQuota,
  type AccountView,
  NO_TENANT,
  REMOVED_RETRY_MS,
  type RefusedBy,
  spareOf,
  type TenantQuota,
  type TenantView,
  type UpstreamLimit,
} from './ledger.ts';
import { Line } from './line.ts';
import { LeasedWindow } from './window.ts';

/** What an admission has to be settled with. */
export interface Receipt {
  /** Whole milliseconds. */
  readonly admittedAt: number;
  /** {@link LeasedWindow.everAnswered} at that time. */
  readonly answeredBefore: number;
}

export type Answer =
  | ({ readonly ok: true } & Receipt)
  | { readonly ok: false; readonly by: RefusedBy; readonly retryAfterMs: number };

/** One who asks: a tenant, or with null the gateway itself, which needs a slot of the window and is not paced. */
export interface Asker {
  readonly tenant: string | null;
  /** If refused for want of a slot, it stands in line for one, unless the wait is longer than this. */
  readonly maxWaitMs: number;
  /** Leaves the last slots to others. */
  readonly background?: boolean;
}

interface TenantState {
  quota: TenantQuota;
  readonly bucket: TokenBucket;
}

/** A slot not taken by the next in line is given to somebody else after this long: no shorter wait is worth telling. */
const SHORTEST_WAIT_MS = 1;

/**
 * All that is counted for one account, in pure code: time comes in, decisions come out. Checks everything, then spends
 * everything; a refusal has spent nothing. Times are whole milliseconds of a clock that does not go back.
 *
 * This is the model of the scripts in adapters/redis/scripts, and what the memory ledger and a replica that has lost
 * Redis work with.
 */
export class AccountState {
  #quota: AccountQuota;
  readonly #window = new LeasedWindow();
  readonly #bucket: TokenBucket;
  readonly #foreign = new ForeignUse();
  readonly #hold = new Hold();
  readonly #line = new Line();
  readonly #guarantees = new Guarantees();
  readonly #tenants = new Map<string, TenantState>();
  #observed = false;

  /**
   * New state knows nothing of the minute before it, so the bucket starts empty, but for one request: its answer tells
   * what the minute before has used.
   */
  constructor(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>, now: number) {
    this.#quota = quota;
    this.#bucket = new TokenBucket(paceOf(quota), now, 1);
    this.configure(quota, tenants, now);
  }

  /** Neither refills nor empties what is spent. Tenants that are gone are forgotten. */
  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>, now: number): void {
    this.#quota = quota;
    this.#bucket.configure(paceOf(quota), now);
    for (const id of this.#tenants.keys()) {
      if (tenants.has(id)) continue;
      this.#tenants.delete(id);
      this.#line.forget(id);
      this.#guarantees.forget(id);
    }
    for (const [id, each] of tenants) {
      const known = this.#tenants.get(id);
      if (known === undefined) this.#tenants.set(id, { quota: each, bucket: new TokenBucket(each, now) });
      else {
        known.quota = each;
        known.bucket.configure(each, now);
      }
    }
    const guaranteed = [...tenants].filter(([, each]) => each.reserved > 0);
    this.#guarantees.configure(new Map(guaranteed.map(([id, each]) => [id, each.reserved])));
  }

  /** @param reserved slots of the ceiling that are not to be given out now */
  ask(asker: Asker, now: number, reserved = 0): Answer {
    if (asker.tenant !== null && !this.#tenants.has(asker.tenant)) {
      return { ok: false, by: 'tenant', retryAfterMs: REMOVED_RETRY_MS };
    }
    this.#line.expire(now);
    const tag = asker.tenant === null ? 0 : this.#line.tagOf(asker.tenant, this.#tenant(asker.tenant).quota.weight);
    const refused = this.#refusal(asker, tag, now, reserved);
    if (refused !== null) return refused;
    const receipt = { admittedAt: now, answeredBefore: this.#window.everAnswered };
    this.#window.lease();
    this.#bucket.take(now);
    if (asker.tenant !== null) {
      const { quota, bucket } = this.#tenant(asker.tenant);
      bucket.take(now);
      this.#line.admitted(asker.tenant, tag, quota.weight);
      this.#guarantees.admitted(asker.tenant, now);
    }
    return { ok: true, ...receipt };
  }

  /** Nobody of this tenant waits any more. */
  withdraw(tenant: string): void {
    this.#line.leave(tenant);
  }

  /** The request provably never left. Its line tag and its guarantee stay as they are: they even out within a minute. */
  refund(tenant: string | null, now: number): void {
    this.#window.release();
    this.#bucket.giveBack(now);
    if (tenant !== null) this.#tenants.get(tenant)?.bucket.giveBack(now);
  }

  /**
   * The headers of the answer are here.
   *
   * @returns whether the limit the answer spoke of is the one configured; another one is another counter's
   */
  settle(receipt: Receipt, seen: UpstreamLimit, now: number): boolean {
    const { limit, ceiling } = this.#quota;
    const ours = seen.limit === null || seen.limit === limit;
    if (ours && seen.remaining !== null && seen.remaining <= limit) {
      const used = limit - seen.remaining;
      this.#foreign.observe({ used, remaining: seen.remaining, ...receipt }, this.#window, now);
      // What upstream has not counted in its present window was not sent in it, by this process or the one before.
      if (!this.#observed) this.#bucket.raiseTo(ceiling - used, now);
      this.#observed = true;
    }
    if (seen.throttled !== null) this.#hold.throttle(seen.throttled.retryAfterMs, receipt.admittedAt, now);
    else this.#hold.answered(receipt.admittedAt);
    this.#window.settle(now);
    return ours;
  }

  /** No answer came, and the request can not arrive any more. */
  expire(now: number): void {
    this.#window.settle(now);
  }

  view(now: number): AccountView {
    return {
      limit: this.#quota.limit,
      ceiling: this.#quota.ceiling,
      slotsInUse: this.#window.held(now),
      slotsForeign: this.#foreign.slots(now),
      heldForMs: this.#hold.heldForMs(now),
      replicas: 1,
    };
  }

  tenantView(tenant: string, now: number): TenantView {
    const known = this.#tenants.get(tenant);
    if (known === undefined) return NO_TENANT;
    const { quota, bucket } = known;
    return { limit: quota.rate, burst: quota.burst, remaining: bucket.available(now), resetMs: bucket.fullMs(now) };
  }

  #refusal(asker: Asker, tag: number, now: number, reserved: number): Extract<Answer, { ok: false }> | null {
    const { tenant, maxWaitMs } = asker;
    const holdMs = this.#hold.heldForMs(now);
    const tenantMs = tenant === null ? 0 : this.#tenant(tenant).bucket.waitMs(1, now);
    const free = this.#quota.ceiling - reserved - this.#window.held(now) - this.#foreign.slots(now);
    const slots = free - this.#guarantees.keptForOthers(tenant, now);
    const crowded = this.#window.inFlight >= this.#foreign.left(now);
    if (tenant === null) {
      const waitMs = Math.max(holdMs, slots < 1 || crowded ? this.#windowMs(1 - slots, crowded, now) : 0);
      return waitMs === 0 ? null : { ok: false, by: holdMs > 0 ? 'hold' : 'account', retryAfterMs: waitMs };
    }
    if (holdMs > 0) return { ok: false, by: 'hold', retryAfterMs: Math.max(holdMs, tenantMs) };
    if (tenantMs > 0) {
      // It can not take its turn: it is not in the others' way.
      this.#line.leave(tenant);
      return { ok: false, by: 'tenant', retryAfterMs: Math.max(tenantMs, this.#accountMs(1, slots, crowded, now)) };
    }
    const spare = asker.background === true ? spareOf(this.#quota) : 0;
    const available = crowded ? 0 : Math.min(slots, this.#bucket.available(now)) - spare;
    const ahead = this.#line.dueAhead(tag, now);
    if (available >= 1 && (available > ahead || this.#guarantees.entitled(tenant, now))) return null;
    const places = this.#line.ahead(tag) + 1;
    const retryAfterMs = Math.max(this.#accountMs(places, slots, crowded, now), SHORTEST_WAIT_MS);
    if (retryAfterMs <= maxWaitMs) this.#line.join(tenant, tag, now + retryAfterMs);
    return { ok: false, by: 'account', retryAfterMs };
  }

  /** Until the account has something for as many. */
  #accountMs(places: number, slots: number, crowded: boolean, now: number): number {
    const windowMs = slots >= places && !crowded ? 0 : this.#windowMs(places - slots, crowded, now);
    return Math.max(windowMs, this.#bucket.waitMs(places, now));
  }

  /** Until `short` more slots are free. */
  #windowMs(short: number, crowded: boolean, now: number): number {
    const passesMs = this.#foreign.passesInMs(now);
    // Either our own slots run out, or the estimate of the others' does.
    if (crowded) return passesMs;
    const freed = short <= 0 ? 0 : this.#window.freeInMs(short, now);
    return this.#foreign.slots(now) === 0 ? freed : Math.min(freed, passesMs);
  }

  #tenant(id: string): TenantState {
    const tenant = this.#tenants.get(id);
    if (tenant === undefined) throw new Error(`the ledger has no tenant ${id}`);
    return tenant;
  }
}

/** The account's bucket is refilled at the ceiling. */
function paceOf({ ceiling, burst }: AccountQuota): { rate: number; burst: number } {
  return { rate: ceiling, burst };
}
