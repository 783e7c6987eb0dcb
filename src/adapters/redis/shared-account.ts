import type { Meter } from '../../ports.ts';
import type { AccountState, Receipt } from '../../quota/account.ts';
import { TOKEN, TokenBucket, waitFor } from '../../quota/bucket.ts';
import { holdAfter } from '../../quota/hold.ts';
import {
  type AccountQuota,
  type AccountView,
  type Ask,
  type Decision,
  NO_TENANT,
  REMOVED_RETRY_MS,
  type RefusedBy,
  type Slot,
  type TenantQuota,
  type TenantView,
} from '../../quota/ledger.ts';
import { tellOfAnswer } from '../../quota/settled.ts';
import { aloneFrom, Fallback } from './fallback.ts';
import { Membership, type MembershipOptions } from './membership.ts';
import type { AdmitResult } from './quota-client.ts';
import { sharedSlot } from './shared-slot.ts';
import type { AccountSnapshot } from './snapshot.ts';

export interface SharedAccountOptions extends MembershipOptions {
  readonly meter: Meter;
  readonly onOutage: 'local' | 'closed';
  readonly flightMs: number;
  /** Redis answers again, or a slot came back: what was told to those who wait no longer holds. */
  readonly onChange: () => void;
}

/** Where nothing better is known. */
const ASK_AGAIN_MS = 100;
const CLOSED_AGAIN_MS = 1_000;

/**
 * One account as this replica sees it: asks Redis while it answers, works on its share while it does not, and comes back
 * with all it holds.
 */
export class SharedAccount {
  readonly membership: Membership;
  readonly #options: SharedAccountOptions;
  #quota: AccountQuota;
  #tenants: ReadonlyMap<string, TenantQuota>;
  #fallback: Fallback | null = null;
  #holdUntil = 0;
  /** The tenants' buckets, as Redis has last told of them. */
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(options: SharedAccountOptions, quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>) {
    this.#options = options;
    this.#quota = quota;
    this.#tenants = tenants;
    this.membership = new Membership(options, {
      cooldownMs: () => this.#heldForMs(this.#now()),
      isAlone: () => this.alone,
      onJoined: () => {
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
    this.#fallback = null;
  }

  get alone(): boolean {
    return this.#fallback !== null;
  }

  admit(ask: Ask): Decision | Promise<Decision> {
    if (ask.tenant !== null && !this.#tenants.has(ask.tenant)) return this.#refuse(ask, 'tenant', REMOVED_RETRY_MS);
    if (!this.#options.client.joined) return this.#withoutRedis(ask);
    return this.#refuseLocally(ask) ?? this.#askRedis(ask, 2);
  }

  withdraw(tenant: string): void {
    if (!this.#options.client.joined) this.#fallback?.state.withdraw(tenant);
    // Should it not arrive: a place in line that nobody claims lapses by itself.
    else this.#options.client.cancel(tenant).catch((error: unknown) => this.membership.failed(error));
  }

  peek(tenant: string): TenantView {
    const quota = this.#tenants.get(tenant);
    if (quota === undefined) return NO_TENANT;
    const now = this.#now();
    if (this.#fallback !== null) {
      const view = this.#fallback.state.tenantView(tenant, now);
      return { ...view, limit: quota.rate, burst: quota.burst };
    }
    return viewOf(quota, this.#buckets.get(tenant)?.spent(now) ?? 0);
  }

  view(): AccountView {
    const now = this.#now();
    const { limit, ceiling } = this.#quota;
    const { snapshot } = this.membership;
    const slotsInUse =
      this.#fallback?.state.view(now).slotsInUse ?? (snapshot === null ? 0 : snapshot.inFlight + snapshot.completed);
    const slotsForeign = snapshot !== null && snapshot.externalUntil > now ? snapshot.external : 0;
    // Not `snapshot.replicas`: that leaves out those that answer 503 without Redis instead of working alone.
    const replicas = snapshot === null ? 0 : Object.keys(snapshot.shares).length;
    return { limit, ceiling, slotsInUse, slotsForeign, heldForMs: this.#heldForMs(now), replicas };
  }

  #heldForMs(now: number): number {
    return Math.max(0, Math.max(this.#holdUntil, this.membership.snapshot?.cooldownUntil ?? 0) - now);
  }

  /** What needs no question: the account is in cooldown, or the tenant's own bucket is empty. A flood stays in this process. */
  #refuseLocally(ask: Ask): Decision | null {
    const now = this.#now();
    const tenantMs = (ask.tenant === null ? undefined : this.#buckets.get(ask.tenant))?.waitMs(1, now) ?? 0;
    const cooldownMs = this.#heldForMs(now);
    if (cooldownMs > 0) return this.#refuse(ask, 'hold', Math.max(cooldownMs, tenantMs));
    return tenantMs > 0 ? this.#refuse(ask, 'tenant', tenantMs) : null;
  }

  async #askRedis(ask: Ask, attempts: number): Promise<Decision> {
    const { client, leases } = this.#options;
    const { membership } = this;
    let reply: AdmitResult;
    leases.asking += 1;
    try {
      reply = await client.admit(ask);
      membership.answered();
    } catch (error) {
      membership.failed(error);
      return client.joined ? this.#refuse(ask, 'state', ASK_AGAIN_MS) : this.#withoutRedis(ask);
    } finally {
      leases.asking -= 1;
    }
    switch (reply.kind) {
      case 'admitted':
        return this.#admitted(ask, reply);
      case 'refused':
        return this.#refused(ask, reply);
      case 'recovering':
        return this.#refuse(ask, 'state', Math.min(reply.waitMs, ASK_AGAIN_MS));
      case 'late':
        // If the clock of Redis leapt, the beat takes that out.
        if (attempts > 1) await membership.confirm().catch((error: unknown) => membership.failed(error));
        return attempts > 1 ? this.#askRedis(ask, attempts - 1) : this.#refuse(ask, 'state', ASK_AGAIN_MS);
      case 'unknown':
        if (attempts > 1 && (client.joined || (await membership.join()))) return this.#askRedis(ask, attempts - 1);
        return this.#withoutRedis(ask);
    }
  }

  #admitted(ask: Ask, reply: Extract<AdmitResult, { kind: 'admitted' }>): Decision {
    const receipt = { admittedAt: reply.admittedAt, answeredBefore: reply.answeredBefore };
    const tenant = ask.tenant === null ? NO_TENANT : this.#learnSpent(ask.tenant, reply.spent);
    return { kind: 'admitted', slot: this.#slot(ask.tenant, receipt, null), tenant };
  }

  #refused(ask: Ask, reply: Extract<AdmitResult, { kind: 'refused' }>): Decision {
    const { by, waitMs, cooldownMs } = reply;
    this.#holdUntil = Math.max(this.#holdUntil, this.#now() + cooldownMs);
    if (ask.tenant !== null) this.#learnSpent(ask.tenant, reply.spent);
    return this.#refuse(ask, by, waitMs);
  }

  #refuse(ask: Ask, by: RefusedBy, retryAfterMs: number): Decision {
    const tenant = ask.tenant === null ? NO_TENANT : this.peek(ask.tenant);
    return { kind: 'refused', by, retryAfterMs: Math.ceil(retryAfterMs), tenant };
  }

  #withoutRedis(ask: Ask): Decision {
    if (this.#options.onOutage === 'closed') return this.#refuse(ask, 'state', CLOSED_AGAIN_MS);
    const { snapshot, isJoining } = this.membership;
    // What is given out while this replica joins would not be counted.
    if (isJoining || snapshot === null) return this.#refuse(ask, 'state', ASK_AGAIN_MS);
    const now = this.#now();
    const waitMs = aloneFrom(snapshot) - now;
    if (waitMs > 0) return this.#refuse(ask, 'state', waitMs);
    const fallback = this.#goAlone(snapshot, now);
    const answer = fallback.state.ask(ask, now, fallback.reserved(now));
    if (!answer.ok) return this.#refuse(ask, answer.by, answer.retryAfterMs);
    const tenant = ask.tenant === null ? NO_TENANT : this.peek(ask.tenant);
    return { kind: 'admitted', slot: this.#slot(ask.tenant, answer, fallback.state), tenant };
  }

  #goAlone(snapshot: AccountSnapshot, now: number): Fallback {
    if (this.#fallback !== null) return this.#fallback;
    const { leases, flightMs, log, account } = this.#options;
    const { share, replicas } = snapshot;
    this.#fallback = new Fallback({
      ...{ snapshot, leases, now, quota: this.#quota, tenants: this.#tenants, maxInFlightMs: flightMs },
    });
    log.warn({ account, share, replicas }, 'Redis does not answer: this replica works on its share of the ceiling');
    return this.#fallback;
  }

  #slot(tenant: string | null, receipt: Receipt, alone: AccountState | null): Slot {
    const { leases, clock, account, client } = this.#options;
    return sharedSlot({
      leases,
      clock,
      tenant,
      burst: tenant === null ? 0 : (this.#tenants.get(tenant)?.burst ?? 0),
      limit: this.#quota.limit,
      receipt,
      alone,
      redisNow: () => client.redisNow(),
      onEnded: () => void this.membership.reportCompletions(),
      onAnswer: (seen, ours) => {
        if (seen.throttled !== null) this.#noteHold(seen.throttled.retryAfterMs);
        tellOfAnswer(account, seen, ours, this.#options);
      },
      onRefund: () => {
        if (tenant !== null) this.#buckets.get(tenant)?.giveBack(this.#now());
        this.#options.onChange();
      },
    });
  }

  #learnSpent(tenant: string, spent: number): TenantView {
    const quota = this.#tenants.get(tenant);
    // Removed while the question was under way.
    if (quota === undefined) return NO_TENANT;
    this.#buckets.set(tenant, TokenBucket.withSpent(quota, spent, this.#now()));
    return viewOf(quota, spent);
  }

  /** Until Redis says otherwise; at least as long as it would hold the account by itself. */
  #noteHold(retryAfterMs: number | null): void {
    this.#holdUntil = Math.max(this.#holdUntil, this.#now() + holdAfter(retryAfterMs));
  }

  #now(): number {
    return Math.floor(this.#options.clock.monotonic());
  }
}

function viewOf(quota: TenantQuota, spent: number): TenantView {
  const left = quota.burst * TOKEN - Math.min(spent, quota.burst * TOKEN);
  const resetMs = waitFor(spent, quota.burst, quota);
  return { limit: quota.rate, burst: quota.burst, remaining: Math.floor(left / TOKEN), resetMs };
}
