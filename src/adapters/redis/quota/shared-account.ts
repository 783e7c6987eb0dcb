import { traced } from '../../../context.ts';
import type { Meter } from '../../../ports.ts';
import type { AccountRequest, AccountState } from '../../../quota/account.ts';
import { believedLimit, effectiveQuota, reportLimitChange } from '../../../quota/advertised-limit.ts';
import { type Charge, exhaustedBy } from '../../../quota/budgets.ts';
import { reportAdvertisedLimit, reportUnknownMinute } from '../../../quota/headers.ts';
import {
  type AccountQuota,
  type AccountView,
  type Decision,
  REMOVED_RETRY_MS,
  REMOVED_TENANT,
  type RejectedBy,
  type RejectedDecision,
  type Slot,
  type SlotRequest,
  type TenantQuota,
  type TenantView,
} from '../../../quota/quota-store.ts';
import type { Lease } from '../../../quota/slot-supply.ts';
import { cooldownAfter } from '../../../quota/slot-supply.ts';
import { TOKEN, TokenBucket, waitFor } from '../../../quota/token-bucket.ts';
import { aloneFrom, Fallback } from './fallback.ts';
import { sharedSlot } from './local-leases.ts';
import { Membership, type MembershipOptions } from './membership.ts';
import type { ScriptDecision } from './quota-client.ts';
import type { AccountSnapshot } from './quota-scripts.ts';

interface SharedAccountOptions extends MembershipOptions {
  readonly meter: Meter;
  readonly onOutage: 'local' | 'closed';
  readonly maxInFlightMs: number;
  /** Redis responds again, or a slot came back: waiters should ask again. */
  readonly onChange: () => void;
}

/** Where nothing better is known. */
const ASK_AGAIN_MS = 100;
const CLOSED_AGAIN_MS = 1_000;
const FULL_MS = 1_000;

/**
 * An account as this replica sees it: asks Redis while it responds, works on its share while it does not, and joins again
 * with all it holds.
 */
export class SharedAccount {
  readonly membership: Membership;
  readonly #options: SharedAccountOptions;
  #quota: AccountQuota;
  #tenants: ReadonlyMap<string, TenantQuota>;
  #fallback: Fallback | null = null;
  /** The shared state was made when this replica started, and no response has come since. */
  #stateIsNew = false;
  /** As far as this replica has learned it by itself; the snapshot has the rest. */
  #cooldownUntil = 0;
  /** The tenants' buckets as of the latest reply. */
  readonly #buckets = new Map<string, TokenBucket>();
  /** By tenant: what Redis said when there was no room for another booking, and until when that is taken to hold. */
  readonly #full = new Map<
    string,
    { readonly until: number; readonly decision: Extract<ScriptDecision, { kind: 'rejected' }> }
  >();

  constructor(options: SharedAccountOptions, quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>) {
    this.#options = options;
    this.#quota = quota;
    this.#tenants = tenants;
    this.membership = new Membership(options, {
      cooldownMs: () => this.#cooldownMs(this.#now()),
      advertised: () => this.#advertised,
      onAdvertised: (before, after) => reportLimitChange(options.account, { before, after }, this.#quota, options.log),
      isAlone: () => this.alone,
      onJoined: () => {
        this.#stateIsNew ||= !this.membership.isOpen && this.membership.snapshot === null;
        this.#fallback = null;
        options.onChange();
      },
    });
    this.configure(quota, tenants);
  }

  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): void {
    this.#quota = quota;
    this.#tenants = tenants;
    this.#options.client.configure(quota, tenants);
    const now = this.#now();
    for (const [id, each] of tenants) this.#buckets.get(id)?.configure(each, now);
    for (const id of this.#buckets.keys()) if (!tenants.has(id)) this.#buckets.delete(id);
    this.#full.clear();
    this.#fallback = null;
  }

  /** This replica works on its share. */
  get alone(): boolean {
    return this.#fallback !== null;
  }

  /** False: as things are, every request is rejected. */
  get canAdmit(): boolean {
    // New state waits for the other replicas before it is open.
    if (this.#options.client.joined) return this.membership.isOpen || this.membership.snapshot !== null;
    // A replica that has never joined has no share, and does not know what the others hold.
    if (this.membership.snapshot === null) return false;
    return this.#options.onOutage === 'local' || this.#options.fault()?.isRefusal !== true;
  }

  async admit(request: SlotRequest): Promise<Decision> {
    const { tenant } = request;
    if (tenant !== null && !this.#tenants.has(tenant))
      return this.#reject(tenant, { by: 'tenant', waitMs: REMOVED_RETRY_MS });
    const asked = { charges: this.#options.client.budgets.charges(tenant, request.budgets), ...request };
    if (!this.#options.client.joined) return this.#admitAlone(asked);
    return this.#rejectLocally(asked) ?? this.#askRedis(asked, 2);
  }

  cancel(tenant: string, place: number): void {
    if (!this.#options.client.joined) this.#fallback?.state.cancel(tenant, place);
    // Should it not arrive: a place in the queue that is not claimed lapses by itself.
    else this.#options.client.cancel(tenant, place).catch((error: unknown) => this.membership.failed(error));
  }

  peek(tenant: string): TenantView {
    const quota = this.#tenants.get(tenant);
    if (quota === undefined) return REMOVED_TENANT;
    const now = this.#now();
    if (this.#fallback !== null) {
      const view = this.#fallback.state.tenantView(tenant, now);
      return { ...view, limit: quota.rate, burst: quota.burst, ...this.#budgets(tenant) };
    }
    return { ...tenantViewOf(quota, this.#buckets.get(tenant)?.spent(now) ?? 0), ...this.#budgets(tenant) };
  }

  view(): AccountView {
    const now = this.#now();
    const { limit } = this.#quota;
    const advertisedLimit = this.#advertised;
    const { ceiling } = effectiveQuota(this.#quota, advertisedLimit);
    const { snapshot } = this.membership;
    const slotsInUse =
      this.#fallback?.state.view(now).slotsInUse ?? (snapshot === null ? 0 : snapshot.inFlight + snapshot.completed);
    const externalUsage = snapshot !== null && snapshot.externalUntil > now ? snapshot.external : 0;
    // Not `snapshot.replicas`: that leaves out those that answer 503 without Redis instead of working alone.
    const replicas = Object.values(snapshot?.mates ?? {}).filter(({ share }) => share !== undefined).length;
    const cooldownMs = this.#cooldownMs(now);
    const budgets = this.#budgets(null);
    return { limit, advertisedLimit, ceiling, slotsInUse, externalUsage, cooldownMs, replicas, ...budgets };
  }

  #budgets(tenant: string | null) {
    const budgets = this.#options.client.budgets.views(tenant);
    return budgets.length > 0 && { budgets };
  }

  /** The limit that the upstream advertises; null: none is known. */
  get #advertised(): number | null {
    return this.#fallback?.state.advertised ?? this.membership.snapshot?.advertised ?? null;
  }

  #cooldownMs(now: number): number {
    return Math.max(0, Math.max(this.#cooldownUntil, this.membership.snapshot?.cooldownUntil ?? 0) - now);
  }

  /** Without a question: in a cooldown, or while the tenant has as many bookings as it may. So a flood stays in this process. */
  #rejectLocally({ tenant, place, books = false, charges = [] }: AccountRequest): Decision | null {
    const now = this.#now();
    // A request that waits has a place, which Redis is to free.
    const exhausted = place === undefined ? this.#options.client.budgets.exhausted(charges) : undefined;
    if (exhausted !== undefined) return this.#rejectExhausted(tenant, exhausted);
    const tenantMs = this.#buckets.get(tenant ?? '')?.waitMs(1, now) ?? 0;
    const cooldownMs = this.#cooldownMs(now);
    if (cooldownMs > 0) return this.#reject(tenant, { by: 'cooldown', waitMs: Math.max(cooldownMs, tenantMs) });
    if (!books && tenantMs > 0) return this.#reject(tenant, { by: 'tenant', waitMs: tenantMs });
    const full = place === undefined ? this.#full.get(tenant ?? '') : undefined;
    return full !== undefined && full.until > now ? this.#reject(tenant, full.decision) : null;
  }

  /** A rejection that booked nothing: there is no room for more. */
  #noteFull({ tenant, books = false }: SlotRequest, decision: Extract<ScriptDecision, { kind: 'rejected' }>): void {
    const hasBooked = decision.place !== undefined || decision.appointment === true || decision.by === 'cooldown';
    if (tenant === null || !books || hasBooked) return;
    this.#full.set(tenant, { until: this.#now() + FULL_MS, decision });
  }

  async #askRedis(request: AccountRequest, attempts: number): Promise<Decision> {
    const { client, leases } = this.#options;
    const { membership } = this;
    const { tenant } = request;
    let decision: ScriptDecision;
    leases.asking += 1;
    try {
      decision = await traced(request.trace ?? null, 'decide', client.admit(request));
      membership.answered();
    } catch (error) {
      membership.failed(error);
      return client.joined ? this.#reject(tenant, { by: 'state', waitMs: ASK_AGAIN_MS }) : this.#admitAlone(request);
    } finally {
      leases.asking -= 1;
    }
    switch (decision.kind) {
      case 'admitted': {
        const view = this.#learnSpent(tenant, decision.spent);
        return { kind: 'admitted', slot: this.#slot(request, decision, null), tenant: view };
      }
      case 'rejected':
        this.#cooldownUntil = Math.max(this.#cooldownUntil, this.#now() + decision.cooldownMs);
        this.#learnSpent(tenant, decision.spent);
        if (decision.exhausted !== undefined) return this.#rejectExhausted(tenant, decision.exhausted);
        this.#noteFull(request, decision);
        return this.#reject(tenant, decision);
      case 'recovering':
        return this.#reject(tenant, { by: 'state', waitMs: Math.min(decision.waitMs, ASK_AGAIN_MS) });
      case 'late':
        // If the clock of Redis leapt, the heartbeat takes that out.
        if (attempts > 1) await membership.confirm().catch((error: unknown) => membership.failed(error));
        return attempts > 1
          ? this.#askRedis(request, attempts - 1)
          : this.#reject(tenant, { by: 'state', waitMs: ASK_AGAIN_MS });
      case 'unknown':
        if (attempts > 1 && (client.joined || (await membership.join()))) return this.#askRedis(request, attempts - 1);
        return this.#admitAlone(request);
    }
  }

  #admitAlone(request: AccountRequest): Decision {
    const { tenant } = request;
    if (this.#options.onOutage === 'closed') return this.#reject(tenant, { by: 'state', waitMs: CLOSED_AGAIN_MS });
    const { snapshot, isJoining } = this.membership;
    // An admission while this replica joins would not be counted.
    if (isJoining || snapshot === null) return this.#reject(tenant, { by: 'state', waitMs: ASK_AGAIN_MS });
    const now = this.#now();
    const waitMs = aloneFrom(snapshot) - now;
    if (waitMs > 0) return this.#reject(tenant, { by: 'state', waitMs: waitMs });
    const fallback = this.#goAlone(snapshot, now);
    const { budgets } = this.#options.client;
    const charges = budgets.chargesAlone(request.charges ?? [], (left) => fallback.budgetPart(left));
    const decision = fallback.state.admit({ ...request, charges }, now, fallback.withheld(now));
    if (decision.kind === 'rejected' && decision.by === 'budget') {
      const exhausted = budgets.exhausted(request.charges ?? []);
      // Its part is used up; what the others have left is not known.
      if (exhausted === undefined) return this.#reject(tenant, { by: 'state', waitMs: CLOSED_AGAIN_MS });
      return this.#rejectExhausted(tenant, exhausted);
    }
    if (decision.kind === 'rejected') return this.#reject(tenant, { ...decision, waitMs: decision.retryAfterMs });
    const view = tenant === null ? REMOVED_TENANT : this.peek(tenant);
    return { kind: 'admitted', slot: this.#slot(request, decision.lease, fallback.state), tenant: view };
  }

  #goAlone(snapshot: AccountSnapshot, now: number): Fallback {
    if (this.#fallback !== null) return this.#fallback;
    const { leases, maxInFlightMs, log, account, client } = this.#options;
    const { share, replicas } = snapshot;
    const quotas = { quota: this.#quota, tenants: this.#tenants };
    const { alone: counts } = client.budgets;
    this.#fallback = new Fallback({ snapshot, leases, counts, maxInFlightMs, now, ...quotas });
    const fault = this.#options.fault();
    log.warn(
      { account, share, replicas, ...(fault !== null && { code: fault.code, reason: fault.reason }) },
      'Redis cannot be used: this replica works on its share of the ceiling',
    );
    return this.#fallback;
  }

  #rejectExhausted(tenant: string | null, exhausted: Charge): Decision {
    const { budget, retryAfterMs } = exhaustedBy(exhausted, this.#options.client.budgets.now());
    return this.#reject(tenant, { by: 'budget', waitMs: retryAfterMs, budget });
  }

  #reject(tenant: string | null, rejection: Partial<RejectedDecision> & { by: RejectedBy; waitMs: number }): Decision {
    const { by, waitMs, askAgainMs = waitMs, place, rankMs, appointment, budget } = rejection;
    return {
      kind: 'rejected',
      by,
      retryAfterMs: Math.ceil(waitMs),
      askAgainMs: Math.ceil(askAgainMs),
      tenant: tenant === null ? REMOVED_TENANT : this.peek(tenant),
      ...(place !== undefined && { place }),
      ...(rankMs !== undefined && { rankMs }),
      ...(appointment !== undefined && { appointment }),
      ...(budget !== undefined && { budget }),
    };
  }

  #slot({ tenant, charges = [] }: AccountRequest, lease: Lease, fallback: AccountState | null): Slot {
    const { leases, clock, account, client } = this.#options;
    return sharedSlot({
      isAlone: () => this.alone && this.#fallback?.state === fallback,
      burst: this.#tenants.get(tenant ?? '')?.burst ?? 0,
      // Until the state is known to be open here, its time is not that of the snapshot.
      knownSince: fallback === null && this.membership.isOpen ? lease.admittedAt : undefined,
      redisNow: () => client.redisNow(),
      onCompleted: (urgent) => this.membership.reportCompletions(urgent),
      onAdvertised: (seen) => {
        if (this.#stateIsNew && seen.remaining === null)
          reportUnknownMinute(account, this.#quota.coldStart, this.#options.log);
        this.#stateIsNew = false;
        if (seen.throttled !== null) {
          // At least as long as Redis would; it may say more.
          const until = this.#now() + cooldownAfter(seen.throttled.retryAfterMs);
          this.#cooldownUntil = Math.max(this.#cooldownUntil, until);
        }
        const isOurs = seen.limit === null || seen.limit === believedLimit(this.#quota, this.#advertised);
        reportAdvertisedLimit(account, seen, isOurs, this.#options);
      },
      onRefund: () => {
        this.#buckets.get(tenant ?? '')?.giveBack(this.#now());
        this.#options.onChange();
      },
      ...{ leases, clock, tenant, charges, lease, fallback },
    });
  }

  #learnSpent(tenant: string | null, spent: number): TenantView {
    const quota = this.#tenants.get(tenant ?? '');
    // The gateway's own call, or a tenant that was removed while the question was under way.
    if (tenant === null || quota === undefined) return REMOVED_TENANT;
    this.#buckets.set(tenant, TokenBucket.withSpent(quota, spent, this.#now()));
    return { ...tenantViewOf(quota, spent), ...this.#budgets(tenant) };
  }

  #now(): number {
    return Math.floor(this.#options.clock.monotonic());
  }
}

function tenantViewOf(quota: TenantQuota, spent: number): TenantView {
  const left = quota.burst * TOKEN - Math.min(spent, quota.burst * TOKEN);
  const resetMs = waitFor(spent, quota.burst, quota);
  return { limit: quota.rate, burst: quota.burst, remaining: Math.floor(left / TOKEN), resetMs };
}
