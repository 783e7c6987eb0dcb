import type { Clock, MonotonicMs } from '../clock.ts';
import type { Span } from '../ports.ts';
import type { Admission, AdmissionRequest, TenantStatus } from './admission.ts';
import type { QuotaStore, RejectedDecision } from './quota-store.ts';

interface Waiter {
  readonly request: AdmissionRequest;
  readonly since: MonotonicMs;
  readonly end: (admission: Admission) => void;
  /** Covers the wait. */
  readonly span: Span | null;
  ended: boolean;
}

/** The waiters of one tenant, first come first served. */
interface TenantQueue {
  readonly waiters: Waiter[];
  /** The latest answer of the store to the first of them, and when it came. */
  rejection: RejectedDecision;
  rejectedAt: MonotonicMs;
  /** The store is being asked for the first of them. */
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

  /** The latest rejection of the tenant's first waiter, with the rest of its wait; undefined if none waits. */
  latestRejection(tenant: string): RejectedDecision | undefined {
    const queue = this.#tenants.get(tenant);
    if (queue === undefined) return undefined;
    return { ...queue.rejection, retryAfterMs: Math.max(0, this.#dueAt(queue) - this.#clock.monotonic()) };
  }

  wait(request: AdmissionRequest, rejection: RejectedDecision): Promise<Admission> {
    return new Promise((resolve) => {
      const since = this.#clock.monotonic();
      const span = request.trace?.start('wait') ?? null;
      let stopListening = (): void => {};
      const waiter: Waiter = {
        request,
        since,
        span,
        ended: false,
        end: (admission) => {
          span?.end({ decision: admission.kind === 'rejected' ? admission.by : admission.kind });
          cancelDeadline();
          stopListening();
          resolve(admission);
        },
      };
      const cancelDeadline = this.#clock.after(request.maxWaitMs, () => this.#reject(waiter));
      const queue = this.#tenants.get(request.tenant);
      if (queue !== undefined) queue.waiters.push(waiter);
      else this.#tenants.set(request.tenant, { waiters: [waiter], rejection, rejectedAt: since, asking: false });
      this.#length += 1;
      // Last: the call comes back at once for a caller that has disconnected already, and the waiter must be complete by then.
      stopListening = request.disconnect.onDisconnect(() => this.#remove(waiter, { kind: 'disconnected' }));
      if (!waiter.ended) this.#setTimer();
    });
  }

  reconsider(): void {
    for (const tenant of [...this.#tenants.keys()]) void this.#serve(tenant);
  }

  dismiss(tenantStatus: (tenant: string) => TenantStatus): void {
    for (const [tenant, { waiters }] of [...this.#tenants]) {
      const status = tenantStatus(tenant);
      if (status === 'active') continue;
      for (const waiter of [...waiters]) this.#remove(waiter, { kind: 'dismissed', status });
    }
  }

  close(): void {
    for (const { waiters } of [...this.#tenants.values()])
      for (const waiter of [...waiters]) this.#remove(waiter, { kind: 'closed' });
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #dueAt({ rejection, rejectedAt }: TenantQueue): number {
    return rejectedAt + rejection.retryAfterMs;
  }

  /** All tenants share one timer, set to the first that is due. */
  #setTimer(): void {
    let dueAt = Number.POSITIVE_INFINITY;
    for (const queue of this.#tenants.values()) if (!queue.asking) dueAt = Math.min(dueAt, this.#dueAt(queue));
    if (dueAt === this.#timerDueAt && this.#cancelTimer !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#timerDueAt = dueAt;
    if (dueAt === Number.POSITIVE_INFINITY) return;
    this.#cancelTimer = this.#clock.after(dueAt - this.#clock.monotonic(), () => {
      this.#cancelTimer = null;
      const now = this.#clock.monotonic();
      for (const [tenant, queue] of [...this.#tenants]) if (this.#dueAt(queue) <= now) void this.#serve(tenant);
      this.#setTimer();
    });
  }

  /** Asks for the first waiter of a tenant, and for the next, until one is rejected. */
  async #serve(tenant: string): Promise<void> {
    const queue = this.#tenants.get(tenant);
    if (queue === undefined || queue.asking) return;
    queue.asking = true;
    let hasPlace = false;
    for (let [first] = queue.waiters; first !== undefined; [first] = queue.waiters) {
      const maxWaitMs = this.#leftMs(first);
      const decision = await this.#store.admit({ account: this.#account, tenant, maxWaitMs, trace: first.span });
      const [waiter] = queue.waiters;
      hasPlace = decision.kind === 'rejected';
      if (decision.kind === 'rejected') {
        queue.rejection = decision;
        queue.rejectedAt = this.#clock.monotonic();
        this.#rejectHopeless(queue);
        break;
      }
      const { slot } = decision;
      // All have left while the store decided.
      if (waiter === undefined) slot.refund();
      else this.#remove(waiter, { kind: 'admitted', slot, waitedMs: this.#clock.monotonic() - waiter.since });
    }
    queue.asking = false;
    // All have left or been rejected: no request will claim the place in the fair queue.
    if (hasPlace && !this.#tenants.has(tenant)) this.#store.cancel(this.#account, tenant);
    this.#setTimer();
  }

  #leftMs({ since, request }: Waiter): number {
    return Math.max(0, since + request.maxWaitMs - this.#clock.monotonic());
  }

  /** A waiter whose time ends before the next slot need not wait until then. */
  #rejectHopeless({ waiters, rejection }: TenantQueue): void {
    for (const waiter of [...waiters]) if (rejection.retryAfterMs > this.#leftMs(waiter)) this.#reject(waiter);
  }

  #reject(waiter: Waiter): void {
    const rejection = this.latestRejection(waiter.request.tenant);
    if (rejection === undefined) return;
    const { by, retryAfterMs } = rejection;
    const waitedMs = this.#clock.monotonic() - waiter.since;
    this.#remove(waiter, {
      ...{ kind: 'rejected', by, retryAfterMs, waitedMs, timedOut: by === 'tenant' || by === 'account' },
    });
  }

  #remove(waiter: Waiter, admission: Admission): void {
    if (waiter.ended) return;
    waiter.ended = true;
    this.#length -= 1;
    const { tenant } = waiter.request;
    const queue = this.#tenants.get(tenant);
    if (queue !== undefined) {
      queue.waiters.splice(queue.waiters.indexOf(waiter), 1);
      if (queue.waiters.length === 0) {
        this.#tenants.delete(tenant);
        if (!queue.asking && admission.kind !== 'admitted') this.#store.cancel(this.#account, tenant);
        if (!queue.asking) this.#setTimer();
      }
    }
    waiter.end(admission);
  }
}
