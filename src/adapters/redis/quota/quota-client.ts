import { batch, type Clock, type MonotonicMs } from '../../../clock.ts';
import type { AccountRequest } from '../../../quota/account.ts';
import { DEFAULT_URGENCY } from '../../../quota/bookings.ts';
import type { Charge } from '../../../quota/budgets.ts';
import type { AccountQuota, RejectedDecision, TenantQuota } from '../../../quota/quota-store.ts';
import { newsOf } from './fallback.ts';
import type { LocalLeases } from './local-leases.ts';
import {
  type AccountSnapshot,
  createQuotaScripts,
  type QuotaScriptsOptions,
  type Reply,
  readSnapshot,
  ServerClock,
} from './quota-scripts.ts';
import { type BudgetsInput, SharedBudgets } from './shared-budgets.ts';

interface QuotaClientOptions extends QuotaScriptsOptions {
  readonly clock: Clock;
  /** Tells this process from one before it that had the same name. */
  readonly process: string;
  readonly onOutage: 'local' | 'closed';
  readonly replicaGraceMs: number;
  /** How long a request can be under way at most, from admission to the last moment it may arrive. */
  readonly maxInFlightMs: number;
  readonly leases: LocalLeases;
  /** 36 random letters are enough for a ticket that is unique. */
  readonly newTicket: () => string;
}

/** Redis' decision, or the reason why it has taken none. */
export type ScriptDecision =
  | {
      readonly kind: 'admitted';
      readonly admittedAt: number;
      readonly completedBefore: number;
      readonly freedBefore: number;
      readonly spent: number;
    }
  | (Pick<RejectedDecision, 'kind' | 'by' | 'askAgainMs' | 'place' | 'rankMs' | 'appointment'> & {
      /** For `budget`: the limit that is reached. */
      readonly exhausted?: Charge | undefined;
      readonly waitMs: number;
      /** The account's cooldown; the tenant may have to wait for longer. */
      readonly cooldownMs: number;
      readonly spent: number;
    })
  /** Redis does not know this replica any more, or the state was made anew. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'late' }
  | { readonly kind: 'recovering'; readonly waitMs: number };

interface Question {
  readonly asked: AccountRequest;
  readonly resolve: (result: ScriptDecision) => void;
  readonly reject: (error: unknown) => void;
}

/** How long a server that has lost its memory waits for the replicas: they send heartbeats twice a second and reconnect as often. */
const OTHERS_COME_MS = 2_000;
/** For a tenant that a reload removes while its question is under way. */
const REMOVED = { rate: 1, burst: 1, weight: 1 };
/** Completions in one command; the rest follows at once. */
const MAX_COMPLETIONS = 500;

/** The calls to the scripts for one account: keys, requests, replies, and Redis' time as far as it is known here. */
export class QuotaClient {
  readonly #options: QuotaClientOptions;
  #quota: AccountQuota;
  #tenants: ReadonlyMap<string, TenantQuota>;
  #ticket = '';
  #joinedIn = -1;
  /**
   * Redis' time of the latest snapshot that arrived here. The next heartbeat says so: only then Redis may rely on this
   * replica not to work alone.
   */
  #confirmedAt = 0;
  /** The state whose time is known. */
  #stateId = '';
  readonly budgets: SharedBudgets;
  readonly #server: ServerClock;
  readonly #run: ReturnType<typeof createQuotaScripts>;
  readonly #ask = batch((questions: readonly Question[]) => void this.#admitAll(questions));

  constructor(options: QuotaClientOptions, quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>) {
    this.#options = options;
    this.#quota = quota;
    this.#tenants = tenants;
    this.budgets = new SharedBudgets(options.clock, options.process, quota, tenants);
    this.#server = new ServerClock(options.clock);
    this.#run = createQuotaScripts(options, this.#server);
  }

  configure(quota: AccountQuota, tenants: ReadonlyMap<string, TenantQuota>): void {
    this.#quota = quota;
    this.#tenants = tenants;
    this.budgets.configure(quota, tenants);
  }

  /** No connection was lost since this replica joined. */
  get joined(): boolean {
    return this.#joinedIn === this.#options.connection.epoch() && this.#options.connection.isReady();
  }

  /** Redis is asked nothing more before this replica has joined again. */
  part(): void {
    this.#joinedIn = -1;
  }

  /** No earlier than the time at Redis now. */
  redisNow(): number {
    return this.#server.now();
  }

  /** Questions of one turn of the event loop go in one script call, because the call costs more than the decision. */
  admit(asked: AccountRequest): Promise<ScriptDecision> {
    return new Promise((resolve, reject) => this.#ask({ asked, resolve, reject }));
  }

  async #admitAll(questions: readonly Question[]): Promise<void> {
    const ticket = this.#ticket;
    const askedAt = this.#options.clock.monotonic();
    const charges = questions.map(({ asked }) => asked.charges ?? []);
    const input = this.budgets.input(charges);
    const number = charges.some(({ length }) => length > 0) ? this.budgets.begin() : null;
    let isLost = true;
    try {
      const request = {
        cluster: this.#options.connection.isCluster,
        reservations: [...this.#tenants].flatMap(([id, { reserved }]) => (reserved > 0 ? [[id, reserved]] : [])),
        asks: questions.map(({ asked }) => this.#askOf(asked, input)),
        ...this.#limits(),
        // Completions go along: then they cost no command of their own.
        ...this.#options.leases.unreported(MAX_COMPLETIONS),
        ...(input.budgets && { budgets: { ...input.budgets, ...(number !== null && { number }) } }),
      };
      const reply = await this.#run('admit', ticket, request, input.labels);
      isLost = false;
      if (reply.status === 'ok') {
        this.#options.leases.acknowledge(reply.last);
        this.budgets.settled(input);
        this.budgets.learn(input, reply.counts);
      }
      if (reply.status === 'ok' || reply.status === 'recovering') this.#server.heard(reply.now, askedAt);
      this.#noteFailure(reply, askedAt, ticket);
      questions.forEach(({ resolve }, index) => {
        resolve(resultOf(reply, index, charges[index]));
      });
    } catch (error) {
      for (const { reject } of questions) reject(error);
    } finally {
      if (number !== null) this.budgets.end(number, isLost);
    }
  }

  #askOf(request: AccountRequest, input: BudgetsInput) {
    const { tenant, maxWaitMs, urgency = DEFAULT_URGENCY, background, books = false, place, charges = [] } = request;
    const { rate, burst, weight } = this.#tenants.get(tenant ?? '') ?? REMOVED;
    return {
      // JSON has no infinity.
      maxWaitMs: Math.floor(Math.min(maxWaitMs, Number.MAX_SAFE_INTEGER)),
      books,
      urgency,
      background: background === true,
      // Left out for the gateway's own calls, which no tenant's bucket paces.
      ...(tenant !== null && { tenant, rate, burst, weight }),
      ...(place !== undefined && { place }),
      ...(charges.length > 0 && { charges: this.budgets.toInput(charges, input) }),
    };
  }

  /** Reports what ended. True: there is more to report. */
  async complete(): Promise<boolean> {
    const { leases } = this.#options;
    const { first, completions } = leases.unreported(MAX_COMPLETIONS);
    if (completions.length === 0) return false;
    const ticket = this.#ticket;
    const askedAt = this.#options.clock.monotonic();
    const { labels, budgets } = this.budgets.input();
    const request = { first, completions, ...this.#limits(), ...(budgets && { budgets }) };
    const reply = await this.#run('complete', ticket, request, labels);
    this.#noteFailure(reply, askedAt, ticket);
    if (reply.status !== 'ok') return false;
    this.#server.heard(reply.now, askedAt);
    leases.acknowledge(reply.last);
    return leases.lastNumber > reply.last;
  }

  async cancel(tenant: string, place: number): Promise<void> {
    await this.#run('cancel', this.#ticket, { tenant, place });
  }

  /**
   * Joins, with all that is held here. `again`: the time of this Redis, or the leap of its clock, was not known and now is.
   * `lost`: the connection was lost meanwhile. `nameTaken`: another process of this name was heard a moment ago.
   */
  async join(
    snapshot: AccountSnapshot | null,
    { cooldownMs, advertised }: { readonly cooldownMs: number; readonly advertised: number | null },
  ): Promise<AccountSnapshot | 'again' | 'lost' | 'nameTaken'> {
    const { leases, clock, connection, onOutage, maxInFlightMs } = this.#options;
    const epoch = connection.epoch();
    const askedAt = clock.monotonic();
    const ticket = this.#options.newTicket();
    const last = leases.lastNumber;
    const inFlight = leases.present;
    const quotas = { quota: this.#quota, tenants: this.#tenants };
    const input = this.budgets.input();
    const brought = { ...this.budgets.brought(input), refunds: leases.unreportedRefunds() };
    const request = {
      ...this.#limits(),
      ...(input.budgets && { budgets: { ...input.budgets, ...brought } }),
      ...leases.held(askedAt),
      ...{ inFlight, last, ticket, process: this.#options.process, stateId: this.#stateId, mode: onOutage },
      share: snapshot?.share ?? 0,
      cooldownMs: Math.ceil(cooldownMs),
      ...(advertised !== null && { advertised }),
      ...(snapshot !== null && {
        news: newsOf(snapshot, quotas, maxInFlightMs, askedAt),
        known: { stateId: snapshot.stateId, slots: leases.known(askedAt) },
      }),
      maxInFlightMs,
      othersComeMs: OTHERS_COME_MS,
      cluster: connection.isCluster,
      adopt: this.#server.leapt,
    };
    const reply = await this.#run('join', '', request, input.labels);
    switch (reply.status) {
      case 'nameTaken':
        return 'nameTaken';
      case 'unfamiliar':
        this.#server.set(reply.now, askedAt);
        this.#stateId = reply.stateId;
        return 'again';
      case 'late':
        this.#server.late(askedAt);
        return this.#server.leapt ? 'again' : 'lost';
      default:
        if (connection.epoch() !== epoch) return 'lost';
        leases.acknowledge(last);
        this.#ticket = ticket;
        this.#joinedIn = epoch;
        this.budgets.settled(input);
        // A state that waits for other replicas lacks what they know: it has not been entered for good.
        if (reply.closedForMs === 0) {
          this.budgets.learn(input, reply.counts, reply.changes);
          this.budgets.entered();
        }
        return this.#snapshot(reply, askedAt);
    }
  }

  /** Null: Redis does not know this replica. */
  async heartbeat(snapshot: AccountSnapshot | null, leavingMs = 0): Promise<AccountSnapshot | null> {
    const { leases, clock, onOutage, maxInFlightMs, replicaGraceMs } = this.#options;
    const askedAt = clock.monotonic();
    const ticket = this.#ticket;
    const input = this.budgets.input();
    const request = {
      ...this.#limits(),
      ...(input.budgets && { budgets: { ...input.budgets, seen: this.budgets.seenChanges } }),
      ...{ inFlight: leases.counted, confirmedAt: this.#confirmedAt, share: snapshot?.share ?? 0, mode: onOutage },
      ...{ maxInFlightMs, graceMs: replicaGraceMs, adopt: this.#server.leapt },
      ...(leavingMs > 0 && { leavingMs }),
    };
    const reply = await this.#run('heartbeat', ticket, request, input.labels);
    this.#noteFailure(reply, askedAt, ticket);
    if (reply.status === 'ok') {
      this.budgets.settled(input);
      this.budgets.learn(input, reply.counts, reply.changes);
    }
    return reply.status === 'ok' ? this.#snapshot(reply, askedAt) : null;
  }

  #snapshot(reply: Reply, askedAt: number): AccountSnapshot {
    this.#stateId = reply.stateId;
    this.#server.heard(reply.now, askedAt);
    this.#confirmedAt = reply.now;
    return readSnapshot(reply, { askedAt, receivedAt: this.#options.clock.monotonic() });
  }

  #noteFailure({ status }: Reply, askedAt: MonotonicMs, ticket: string): void {
    if (status === 'late') this.#server.late(askedAt);
    // Unless this replica has joined anew while the command was under way.
    if (status === 'unknown' && ticket === this.#ticket) this.part();
  }

  #limits() {
    const { limit, ceiling, burst, coldStart = 'trust', adoptLimit = true } = this.#quota;
    return { limit, ceiling, burst, coldStart, adoptLimit };
  }
}

function resultOf(reply: Reply, index: number, charges: readonly Charge[] = []): ScriptDecision {
  if (reply.status === 'late') return { kind: 'late' };
  if (reply.status === 'recovering') return { kind: 'recovering', waitMs: reply.waitMs };
  const decision = reply.decisions?.[index];
  if (decision === undefined) return { kind: 'unknown' };
  const {
    spent,
    completedBefore,
    freedBefore = 0,
    by = 'account',
    waitMs = 0,
    askAgainMs = waitMs,
    cooldownMs = 0,
    exhausted,
    ...booked
  } = decision;
  if (exhausted !== undefined) {
    return { kind: 'rejected', by, waitMs, askAgainMs, cooldownMs, spent, exhausted: charges[exhausted - 1] };
  }
  if (completedBefore === undefined) return { kind: 'rejected', by, waitMs, askAgainMs, cooldownMs, spent, ...booked };
  return { kind: 'admitted', admittedAt: reply.now, completedBefore, freedBefore, spent };
}
