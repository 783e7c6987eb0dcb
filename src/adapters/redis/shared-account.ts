import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log, Meter } from '../../observe.ts';
import type { AccountState, Receipt } from '../../quota/account.ts';
import { TOKEN, TokenBucket, waitFor } from '../../quota/bucket.ts';
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
  type UpstreamLimit,
} from '../../quota/ledger.ts';
import { tellOfAnswer } from '../../quota/settled.ts';
import { aloneFrom, Fallback } from './fallback.ts';
import type { Link, Reply } from './link.ts';
import type { Ending, OwnSlots } from './own-slots.ts';
import type { Standing } from './standing.ts';

export interface SharedAccountOptions {
  readonly account: string;
  readonly link: Link;
  readonly own: OwnSlots;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
  readonly onOutage: 'local' | 'closed';
  readonly flightMs: number;
  readonly isReady: () => boolean;
  /** Redis answers again, or a slot came back: what was told to those who wait no longer holds. */
  readonly onChange: () => void;
  /** Redis does not answer on a connection that stands: a new one may. */
  readonly reconnect: () => void;
  readonly onNameTaken: () => void;
}

/** Twice a second; a member that is not heard for 1.75 s counts as silent (roster.lua). */
const BEAT_MS = 500;
/** Commands that fail in a row before Redis is left alone but for the beat. */
const FAILURES_TO_PART = 3;
/** Beats that fail in a row before the connection is given up. */
const FAILURES_TO_RECONNECT = 8;
/** A replica that works alone goes back after as many beats at which Redis was there: not at every flicker. */
const READY_BEATS = 2;
/** A refusal by the account is not believed for longer: a slot that is given back, or a replica that is, changes it. */
const LONGEST_BELIEF_MS = 1_000;
/** Where nothing better is known. */
const ASK_AGAIN_MS = 100;
const CLOSED_AGAIN_MS = 1_000;
/** To learn what time it is at Redis, and that its clock leapt. */
const ATTEMPTS_TO_ENTER = 3;
/** A name that another process keeps using this long is left to it. */
const NAME_TAKEN_BEATS = 8;

interface Refusal {
  readonly by: RefusedBy;
  readonly until: number;
  /** Until then it is repeated without asking. */
  readonly believedUntil: number;
  /** The tenant stands in line at Redis. */
  readonly inLine: boolean;
}

/**
 * One account as this replica sees it: asks Redis while it answers, works on its share while it does not, and comes back
 * with all it holds. What it knows to be out it refuses by itself.
 */
export class SharedAccount {
  readonly #options: SharedAccountOptions;
  #quota: AccountQuota;
  #tenants: ReadonlyMap<string, TenantQuota>;
  #guarantees = '';
  #standing: Standing | null = null;
  #fallback: Fallback | null = null;
  #entering: Promise<boolean> | null = null;
  #failures = 0;
  #readyBeats = 0;
  #takenBeats = 0;
  #settling = false;
  #holdUntil = 0;
  /** The shared state was made anew, and waits for other replicas: what it says of itself is not the whole yet. */
  #recovering = false;
  #recoveredAt = 0;
  #recoveringUntil = 0;
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #refusals = new Map<string, Refusal>();
  #cancelBeat: () => void = () => {};
  #closed = false;

  constructor(options: SharedAccountOptions, quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>) {
    this.#options = options;
    this.#quota = quota;
    this.#tenants = tenants;
    this.configure(quota, tenants);
  }

  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): void {
    this.#quota = quota;
    this.#tenants = tenants;
    const guaranteed = [...tenants].filter(([, { guarantee }]) => guarantee > 0);
    this.#guarantees = guaranteed.map(([id, { guarantee }]) => `${id}=${guarantee}`).join(' ');
    const now = this.#now();
    for (const [id, each] of tenants) this.#buckets.get(id)?.configure(each, now);
    for (const id of this.#buckets.keys()) if (!tenants.has(id)) this.#buckets.delete(id);
    this.#refusals.clear();
    this.#fallback = null;
  }

  /** Joins, and from then on says twice a second that it is there. Resolves after the first attempt. */
  async start(): Promise<void> {
    await this.#beat();
  }

  /** Redis can be asked (again): no need to wait for the next beat, unless this replica works alone. */
  reachable(): void {
    if (this.#fallback !== null || this.#closed) return;
    this.#enter()
      .then(() => this.#confirm())
      .catch((error: unknown) => this.#failed(error));
  }

  async stop(leavingMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelBeat();
    const { link } = this.#options;
    if (!link.joined) return;
    try {
      while (await link.settle(this.#quota)) {}
      await link.beat(this.#quota, this.#guarantees, this.#standing, leavingMs);
    } catch {
      // Redis is gone: the others hear of it by the silence.
    }
  }

  get up(): boolean {
    return this.#options.link.joined && this.#failures === 0;
  }

  get alone(): boolean {
    return this.#fallback !== null;
  }

  admit(ask: Ask): Decision | Promise<Decision> {
    if (ask.tenant !== null && !this.#tenants.has(ask.tenant)) return this.#refuse(ask, 'tenant', REMOVED_RETRY_MS);
    if (!this.#options.link.joined) return this.#withoutRedis(ask);
    return this.#refuseFromMemory(ask) ?? this.#askRedis(ask, 2);
  }

  withdraw(tenant: string): void {
    this.#refusals.delete(tenant);
    if (!this.#options.link.joined) this.#fallback?.state.withdraw(tenant);
    // Should it not arrive: a place in line that nobody claims lapses by itself.
    else this.#options.link.withdraw(tenant).catch(() => {});
  }

  peek(tenant: string): TenantView {
    const quota = this.#tenants.get(tenant);
    if (quota === undefined) return NO_TENANT;
    const now = this.#now();
    const alone = this.#fallback;
    if (alone !== null) {
      const view = alone.state.tenantView(tenant, now);
      return { ...view, limit: quota.rate, burst: quota.burst };
    }
    const spent = this.#buckets.get(tenant)?.spent(now) ?? 0;
    return viewOf(quota, spent);
  }

  view(): AccountView {
    const now = this.#now();
    const { limit, ceiling } = this.#quota;
    const standing = this.#standing;
    const slotsInUse =
      this.#fallback?.state.view(now).slotsInUse ?? (standing === null ? 0 : standing.inFlight + standing.answered);
    const foreign = standing !== null && standing.foreignUntil > now ? standing.slotsForeign : 0;
    return { limit, ceiling, slotsInUse, slotsForeign: foreign, heldForMs: this.#heldForMs(now) };
  }

  #heldForMs(now: number): number {
    return Math.max(0, Math.max(this.#holdUntil, this.#standing?.heldUntil ?? 0) - now);
  }

  /** What is known to be out until a time is refused until then, without asking. */
  #refuseFromMemory(ask: Ask): Decision | null {
    const now = this.#now();
    const holdMs = this.#heldForMs(now);
    if (holdMs > 0) return this.#refuse(ask, 'hold', holdMs);
    if (this.#recoveringUntil > now) return this.#refuse(ask, 'state', this.#recoveringUntil - now);
    if (ask.tenant === null) return null;
    const known = this.#refusals.get(ask.tenant);
    if (known === undefined) return null;
    const waitMs = known.until - now;
    // One that is willing to wait needs a place in line, unless it is its own bucket that it waits for.
    if (known.believedUntil > now && (waitMs > ask.maxWaitMs || known.inLine || known.by === 'tenant')) {
      return this.#refuse(ask, known.by, waitMs);
    }
    this.#refusals.delete(ask.tenant);
    return null;
  }

  async #askRedis(ask: Ask, attempts: number): Promise<Decision> {
    const { link, own } = this.#options;
    const pace = ask.tenant === null ? NO_PACE : this.#quotaOf(ask.tenant);
    let reply: Reply;
    own.asking += 1;
    try {
      reply = await link.admit(ask.tenant ?? '', pace, ask.maxWaitMs, this.#quota);
      this.#failures = 0;
    } catch (error) {
      this.#failed(error);
      return link.joined ? this.#refuse(ask, 'state', ASK_AGAIN_MS) : this.#withoutRedis(ask);
    } finally {
      own.asking -= 1;
    }
    switch (reply.kind) {
      case 'admitted':
        return this.#admitted(ask, reply);
      case 'refused':
        return this.#refused(ask, reply);
      case 'recovering':
        this.#recoveringUntil = this.#now() + Math.min(reply.waitMs, ASK_AGAIN_MS);
        return this.#refuse(ask, 'state', Math.min(reply.waitMs, ASK_AGAIN_MS));
      case 'late':
        // If the clock of Redis leapt, the beat takes that out.
        if (attempts > 1) await this.#confirm().catch((error: unknown) => this.#failed(error));
        return attempts > 1 ? this.#askRedis(ask, attempts - 1) : this.#refuse(ask, 'state', ASK_AGAIN_MS);
      case 'unknown':
        if (attempts > 1 && (link.joined || (await this.#enter()))) return this.#askRedis(ask, attempts - 1);
        return this.#withoutRedis(ask);
    }
  }

  #admitted(ask: Ask, reply: Extract<Reply, { kind: 'admitted' }>): Decision {
    const receipt = { admittedAt: reply.admittedAt, answeredBefore: reply.answeredBefore };
    const tenant = ask.tenant === null ? NO_TENANT : this.#learnSpent(ask.tenant, reply.spent);
    return { kind: 'admitted', slot: this.#slot(ask.tenant, receipt, null), tenant };
  }

  #refused(ask: Ask, reply: Extract<Reply, { kind: 'refused' }>): Decision {
    const { by, waitMs } = reply;
    const until = this.#now() + waitMs;
    if (by === 'hold') this.#holdUntil = Math.max(this.#holdUntil, until);
    else if (ask.tenant !== null) {
      const inLine = by === 'account' && waitMs <= ask.maxWaitMs;
      const believedMs = by === 'account' && !inLine ? Math.min(waitMs, LONGEST_BELIEF_MS) : waitMs;
      this.#refusals.set(ask.tenant, { by, until, believedUntil: until - waitMs + believedMs, inLine });
    }
    if (ask.tenant !== null) this.#learnSpent(ask.tenant, reply.spent);
    return this.#refuse(ask, by, waitMs);
  }

  #refuse(ask: Ask, by: RefusedBy, retryAfterMs: number): Decision {
    const tenant = ask.tenant === null ? NO_TENANT : this.peek(ask.tenant);
    return { kind: 'refused', by, retryAfterMs: Math.ceil(retryAfterMs), tenant };
  }

  #withoutRedis(ask: Ask): Decision {
    const now = this.#now();
    if (this.#options.onOutage === 'closed') return this.#refuse(ask, 'state', CLOSED_AGAIN_MS);
    // What is not entered yet would not be counted.
    if (this.#entering !== null || this.#standing === null) return this.#refuse(ask, 'state', ASK_AGAIN_MS);
    const waitMs = aloneFrom(this.#standing) - now;
    if (waitMs > 0) return this.#refuse(ask, 'state', waitMs);
    const fallback = this.#goAlone(this.#standing, now);
    const answer = fallback.state.ask(ask, now, fallback.reserved(now));
    if (!answer.ok) return this.#refuse(ask, answer.by, answer.retryAfterMs);
    const tenant = ask.tenant === null ? NO_TENANT : this.peek(ask.tenant);
    return { kind: 'admitted', slot: this.#slot(ask.tenant, answer, fallback.state), tenant };
  }

  #goAlone(standing: Standing, now: number): Fallback {
    if (this.#fallback !== null) return this.#fallback;
    const { own, flightMs, log, account } = this.#options;
    const { share, replicas } = standing;
    this.#fallback = new Fallback({ standing, quota: this.#quota, tenants: this.#tenants, flightMs, own, now });
    log.warn({ account, share, replicas }, 'Redis does not answer: this replica works on its share of the ceiling');
    return this.#fallback;
  }

  #slot(tenant: string | null, receipt: Receipt, alone: AccountState | null): Slot {
    const { own, clock, account } = this.#options;
    const begun = own.begin(clock.monotonic());
    let ended = false;
    const once = (): boolean => {
      const first = !ended;
      ended = true;
      return first;
    };
    const end = (ending: Ending): void => {
      own.end(begun, ending, clock.monotonic());
      void this.#settle();
    };
    return {
      settle: (seen) => {
        if (!once()) return;
        const ours = seen.limit === null || seen.limit === this.#quota.limit;
        if (seen.throttled !== null) this.#noteHold(seen.throttled.retryAfterMs);
        alone?.settle(receipt, { ...seen, remaining: null }, this.#now());
        end(endingOf(alone === null ? receipt : this.#receiptOfRedis(), seen, ours, alone === null, this.#quota.limit));
        tellOfAnswer(account, seen, ours, this.#options);
      },
      lose: (latestArrival: MonotonicMs) => {
        if (!once()) return;
        clock.after(latestArrival - clock.monotonic(), () => {
          alone?.expire(this.#now());
          end(['x']);
        });
      },
      refund: () => {
        if (!once()) return;
        alone?.refund(tenant, this.#now());
        if (tenant !== null) this.#buckets.get(tenant)?.giveBack(this.#now());
        this.#refusals.clear();
        end(['r', tenant ?? '', tenant === null ? 0 : (this.#tenants.get(tenant)?.burst ?? 0)]);
        this.#options.onChange();
      },
    };
  }

  /** One command at a time, so that they arrive in order; what ends meanwhile goes with the next. */
  async #settle(): Promise<void> {
    const { link } = this.#options;
    if (this.#settling || !link.joined) return;
    this.#settling = true;
    try {
      // Several answers of one tick go together.
      await Promise.resolve();
      let more = true;
      while (more && link.joined) more = await link.settle(this.#quota);
      this.#failures = 0;
    } catch (error) {
      // They are told again with the next, or on entering: until then Redis counts them as in flight.
      this.#failed(error);
    } finally {
      this.#settling = false;
    }
  }

  async #beat(): Promise<void> {
    const { link, clock, isReady } = this.#options;
    try {
      if (!isReady()) this.#readyBeats = 0;
      else {
        this.#readyBeats += 1;
        const flickering = this.#fallback !== null && this.#readyBeats < READY_BEATS;
        if ((!link.joined || this.#recovering) && !flickering) await this.#enter();
        await this.#confirm();
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      const nextMs = this.#recovering ? Math.min(BEAT_MS, Math.max(1, this.#recoveredAt - this.#now())) : BEAT_MS;
      if (!this.#closed) this.#cancelBeat = clock.after(nextMs, () => void this.#beat());
    }
  }

  /** Redis leaves a share to this replica until it says that it has heard the answer. */
  async #confirm(): Promise<void> {
    const { link, own } = this.#options;
    if (!link.joined || this.#recovering) return;
    this.#learn(await link.beat(this.#quota, this.#guarantees, this.#standing));
    this.#failures = 0;
    if (own.untold(1).endings.length > 0) void this.#settle();
  }

  #learn(standing: Standing | null): void {
    if (standing === null) return;
    this.#standing = standing;
    this.#holdUntil = Math.max(this.#holdUntil, standing.heldUntil);
  }

  /** @returns whether Redis can be asked now */
  #enter(): Promise<boolean> {
    this.#entering ??= this.#tryToEnter().finally(() => {
      this.#entering = null;
    });
    return this.#entering;
  }

  async #tryToEnter(): Promise<boolean> {
    const { link, account, log } = this.#options;
    try {
      let entered: Awaited<ReturnType<Link['enter']>> = 'again';
      for (let attempt = 0; entered === 'again' && attempt < ATTEMPTS_TO_ENTER; attempt++) {
        entered = await link.enter(this.#quota, this.#standing, this.#heldForMs(this.#now()));
      }
      if (entered === 'taken') {
        this.#takenBeats += 1;
        if (this.#takenBeats >= NAME_TAKEN_BEATS) this.#options.onNameTaken();
        return false;
      }
      if (entered === 'lost' || entered === 'again') return false;
      this.#takenBeats = 0;
      this.#failures = 0;
      this.#refusals.clear();
      const { closedForMs, replicas } = entered;
      this.#recoveringUntil = this.#now() + Math.min(closedForMs, ASK_AGAIN_MS);
      // A state that waits for other replicas lacks what they hold: what was known before is worth more.
      const wasRecovering = this.#recovering;
      this.#recovering = closedForMs > 0;
      this.#recoveredAt = this.#now() + closedForMs + 5;
      if (!this.#recovering) this.#learn(entered);
      if (this.#fallback !== null)
        log.info({ account, replicas }, 'Redis answers: back from its share with all slots held');
      if (this.#recovering && !wasRecovering) {
        log.info(
          { account, replicas, closedForMs },
          'the state in Redis is new: waiting for other replicas to enter what they hold',
        );
      }
      this.#fallback = null;
      this.#options.onChange();
      return true;
    } catch (error) {
      this.#failed(error);
      return false;
    }
  }

  #failed(error: unknown): void {
    const { link, log, account } = this.#options;
    this.#failures += 1;
    this.#readyBeats = 0;
    // By its message alone: the error itself holds the whole command.
    const reason = error instanceof Error ? error.message : String(error);
    log.debug({ account, reason, failures: this.#failures }, 'a command to Redis failed');
    if (this.#failures >= FAILURES_TO_PART) link.part();
    if (this.#failures % FAILURES_TO_RECONNECT === 0) this.#options.reconnect();
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
    this.#holdUntil = Math.max(this.#holdUntil, this.#now() + Math.min(retryAfterMs ?? 10_000, 3_600_000));
  }

  /** For what was admitted without Redis, as of now: it says nothing of foreign use. */
  #receiptOfRedis(): Receipt {
    return { admittedAt: Math.floor(this.#options.link.redisNow()), answeredBefore: 0 };
  }

  #quotaOf(tenant: string): TenantQuota {
    const quota = this.#tenants.get(tenant);
    if (quota === undefined) throw new Error(`the ledger has no tenant ${tenant} of account ${this.#options.account}`);
    return quota;
  }

  #now(): number {
    return Math.floor(this.#options.clock.monotonic());
  }
}

const NO_PACE = { rate: 1, burst: 1, weight: 1 };

function viewOf(quota: TenantQuota, spent: number): TenantView {
  const left = quota.burst * TOKEN - Math.min(spent, quota.burst * TOKEN);
  const resetMs = waitFor(spent, quota.burst, quota);
  return { limit: quota.rate, burst: quota.burst, remaining: Math.floor(left / TOKEN), resetMs };
}

function endingOf(receipt: Receipt, seen: UpstreamLimit, ours: boolean, observed: boolean, limit: number): Ending {
  const { remaining, throttled } = seen;
  const used = observed && ours && remaining !== null && remaining <= limit ? limit - remaining : -1;
  const told = throttled === null ? -1 : (throttled.retryAfterMs ?? -2);
  return ['s', receipt.admittedAt, receipt.answeredBefore, used, remaining ?? 0, told];
}
