import type { Clock, MonotonicMs } from '../clock.ts';
import type { Span } from '../ports.ts';
import { DEFAULT_URGENCY } from './bookings.ts';
import type {
  Admission,
  AdmissionRequest,
  Decision,
  QuotaStore,
  RejectedDecision,
  TenantStatus,
} from './quota-store.ts';

interface Waiter {
  readonly request: AdmissionRequest;
  readonly since: MonotonicMs;
  readonly end: (admission: Admission) => void;
  /** Covers the wait. */
  readonly span: Span | null;
  /** Its place among the requests of its tenant, the lowest first: see bookings.ts. */
  readonly rank: number;
  /** The store's latest answer, and when the request is to ask again. */
  rejection: RejectedDecision;
  askAt: number;
  /** Its time is over: it asks once more. */
  overdue: boolean;
  ended: boolean;
}

type Budgets = AdmissionRequest['budgets'];

/** The waiters of one tenant, in the order of their ranks. */
interface TenantQueue {
  readonly waiters: Waiter[];
  /** The store is being asked. */
  asking: boolean;
}

/** The waiters of one account. */
export class AccountQueue {
  readonly #account: string;
  readonly #store: QuotaStore;
  readonly #clock: Clock;
  readonly #tenants = new Map<string, TenantQueue>();
  #length = 0;
  #cancelTimer: (() => void) | null = null;
  #timerDueAt = Number.POSITIVE_INFINITY;

  constructor(account: string, store: QuotaStore, clock: Clock) {
    this.#account = account;
    this.#store = store;
    this.#clock = clock;
  }

  get length(): number {
    return this.#length;
  }

  waiting(tenant?: string): number {
    return tenant === undefined ? this.#length : (this.#tenants.get(tenant)?.waiters.length ?? 0);
  }

  /** @param rejection the store's, which gave the request a place */
  wait(request: AdmissionRequest, rejection: RejectedDecision): Promise<Admission> {
    return new Promise((resolve) => {
      const since = this.#clock.monotonic();
      const span = request.trace?.start('wait') ?? null;
      let stopListening = (): void => {};
      const waiter: Waiter = {
        ...{ request, since, span, rejection, overdue: false, ended: false },
        rank: since + (rejection.rankMs ?? 0),
        askAt: since + rejection.askAgainMs,
        end: (admission) => {
          span?.end({ decision: admission.kind === 'rejected' ? admission.by : admission.kind });
          cancelDeadline();
          stopListening();
          resolve(admission);
        },
      };
      const cancelDeadline = this.#clock.after(request.maxWaitMs, () => {
        waiter.overdue = true;
        void this.#serve(request.tenant);
      });
      this.#insert(waiter);
      // Last: the call comes back at once for a caller that has disconnected already, and the waiter must be complete by then.
      stopListening = request.disconnect.onDisconnect(() => this.#abandon(waiter, { kind: 'disconnected' }));
      if (!waiter.ended) this.#setTimer();
    });
  }

  reconsider(): void {
    for (const [tenant, { waiters }] of [...this.#tenants]) {
      for (const waiter of waiters) waiter.askAt = this.#clock.monotonic();
      void this.#serve(tenant);
    }
  }

  dismiss(tenantStatus: (tenant: string) => TenantStatus): void {
    for (const [tenant, { waiters }] of [...this.#tenants]) {
      const status = tenantStatus(tenant);
      if (status === 'active') continue;
      for (const waiter of [...waiters]) this.#abandon(waiter, { kind: 'dismissed', status });
    }
  }

  close(): void {
    for (const { waiters } of [...this.#tenants.values()])
      for (const waiter of [...waiters]) this.#abandon(waiter, { kind: 'closed' });
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #insert(waiter: Waiter): void {
    const { tenant } = waiter.request;
    const { waiters } = this.#tenants.get(tenant) ?? this.#newQueue(tenant);
    let index = waiters.length;
    while (index > 0 && (waiters[index - 1] as Waiter).rank > waiter.rank) index -= 1;
    waiters.splice(index, 0, waiter);
    this.#length += 1;
  }

  #newQueue(tenant: string): TenantQueue {
    const queue = { waiters: [], asking: false };
    this.#tenants.set(tenant, queue);
    return queue;
  }

  /** All tenants share one timer, set to the first that is due. */
  #setTimer(): void {
    let dueAt = Number.POSITIVE_INFINITY;
    for (const { waiters, asking } of this.#tenants.values()) {
      const [first] = waiters;
      if (!asking && first !== undefined) dueAt = Math.min(dueAt, first.askAt);
    }
    if (dueAt === this.#timerDueAt && this.#cancelTimer !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#timerDueAt = dueAt;
    if (dueAt === Number.POSITIVE_INFINITY) return;
    this.#cancelTimer = this.#clock.after(dueAt - this.#clock.monotonic(), () => {
      this.#cancelTimer = null;
      for (const tenant of [...this.#tenants.keys()]) void this.#serve(tenant);
      this.#setTimer();
    });
  }

  /** Asks for those whose time is over, and for the first waiters of a tenant until one is to wait for longer. */
  async #serve(tenant: string): Promise<void> {
    const queue = this.#tenants.get(tenant);
    if (queue === undefined || queue.asking) return;
    queue.asking = true;
    for (let waiter = this.#nextToAsk(queue); waiter !== undefined; waiter = this.#nextToAsk(queue)) {
      const { place } = waiter.rejection;
      const { urgency = DEFAULT_URGENCY, budgets } = waiter.request;
      const request = { account: this.#account, tenant, maxWaitMs: this.#leftMs(waiter), trace: waiter.span };
      const decision = await this.#store.admit({ ...request, urgency, books: true, place, budgets });
      if (waiter.ended) this.#passOn(queue, tenant, budgets, decision);
      else this.#take(waiter, decision);
      // The next one need not wait for longer than the one before it did; nor for a budget that is used up.
      const [next] = queue.waiters;
      const movesUp = decision.kind === 'admitted' || (decision.by === 'budget' && waiter.ended);
      if (movesUp && next !== undefined) next.askAt = this.#clock.monotonic();
    }
    queue.asking = false;
    if (queue.waiters.length === 0 && this.#tenants.get(tenant) === queue) this.#tenants.delete(tenant);
    this.#setTimer();
  }

  #nextToAsk({ waiters }: TenantQueue): Waiter | undefined {
    const [first] = waiters;
    const isDue = first !== undefined && first.askAt <= this.#clock.monotonic();
    return isDue ? first : waiters.find(({ overdue }) => overdue);
  }

  #take(waiter: Waiter, decision: Decision): void {
    const waitedMs = this.#clock.monotonic() - waiter.since;
    if (decision.kind === 'admitted') {
      this.#remove(waiter, { kind: 'admitted', slot: decision.slot, waitedMs });
      return;
    }
    const { by, retryAfterMs } = decision;
    if (retryAfterMs <= this.#leftMs(waiter) && !waiter.overdue) {
      waiter.rejection = decision;
      waiter.askAt = this.#clock.monotonic() + decision.askAgainMs;
      return;
    }
    const timedOut = by === 'tenant' || by === 'account';
    this.#remove(waiter, { ...decision, waitedMs, timedOut });
  }

  /** The waiter left while the store decided: the next one takes its slot, if it counts against the same budgets. */
  #passOn({ waiters }: TenantQueue, tenant: string, budgets: Budgets, decision: Decision): void {
    const [next] = waiters;
    if (decision.kind === 'rejected') this.#cancel(tenant, decision);
    else if (next === undefined || String(next.request.budgets) !== String(budgets)) decision.slot.refund();
    else {
      this.#cancel(tenant, next.rejection);
      this.#take(next, decision);
    }
  }

  #leftMs({ since, request }: Waiter): number {
    return Math.max(0, since + request.maxWaitMs - this.#clock.monotonic());
  }

  /** For a waiter that goes without having asked: its place is free. */
  #abandon(waiter: Waiter, admission: Admission): void {
    if (waiter.ended) return;
    // The waiters behind it move up.
    const waiters = this.#tenants.get(waiter.request.tenant)?.waiters ?? [];
    const next = waiters[waiters.indexOf(waiter) + 1];
    if (next !== undefined) next.askAt = Math.min(next.askAt, waiter.askAt);
    this.#remove(waiter, admission);
    this.#cancel(waiter.request.tenant, waiter.rejection);
  }

  #cancel(tenant: string, { place }: RejectedDecision): void {
    if (place !== undefined) this.#store.cancel(this.#account, tenant, place);
  }

  #remove(waiter: Waiter, admission: Admission): void {
    if (waiter.ended) return;
    waiter.ended = true;
    this.#length -= 1;
    const { tenant } = waiter.request;
    const queue = this.#tenants.get(tenant);
    if (queue !== undefined) {
      queue.waiters.splice(queue.waiters.indexOf(waiter), 1);
      if (queue.waiters.length === 0 && !queue.asking) this.#tenants.delete(tenant);
      if (!queue.asking) this.#setTimer();
    }
    waiter.end(admission);
  }
}
