import type { Clock } from '../clock.ts';
import { AccountQueue } from './account-queue.ts';
import type { Admission, AdmissionRequest, QuotaStore, TenantStatus } from './quota-store.ts';

export interface AdmissionQueue {
  /** Admits at once if there is a slot and no request of the same tenant waits for one. */
  enter(request: AdmissionRequest): Promise<Admission>;
  /** How many requests wait: of one tenant, or of all. */
  waiting(account: string, tenant?: string): number;
  /** Asks again for all waiters: the times of their next attempts no longer hold. */
  reconsider(): void;
  /** Rejects from now on all requests of tenants that may not call any more, also those that wait or that a reload has overtaken. */
  dismiss(tenantStatus: (tenant: string) => TenantStatus): void;
  /** Rejects all waiters, and later requests too. */
  close(): void;
}

/**
 * Each waiter holds a connection and a body. A tenant has no more places than are still free, so that some are left for the
 * others however much it asks for.
 */
const MAX_LENGTH = 1_000;

/**
 * Requests wait here for a slot, within a tenant in the order of their urgency, which grows with their age. The store decides which tenant is next, here and on other replicas.
 * Nothing polls: the first waiter of each tenant asks again at the time that the store named, by one timer an account. A
 * caller that disconnects frees its place and has spent nothing.
 */
export function createAdmissionQueue(options: {
  readonly quotaStore: QuotaStore;
  readonly clock: Clock;
}): AdmissionQueue {
  const { quotaStore, clock } = options;
  // Accounts come from the configuration: the map is bounded by it.
  const queues = new Map<string, AccountQueue>();
  let tenantStatus = (_tenant: string): TenantStatus => 'active';
  let closed = false;

  const queueOf = (account: string): AccountQueue => {
    const queue = queues.get(account) ?? new AccountQueue(account, quotaStore, clock);
    queues.set(account, queue);
    return queue;
  };

  return {
    async enter(request) {
      if (closed) return { kind: 'closed' };
      const status = tenantStatus(request.tenant);
      if (status !== 'active') return { kind: 'dismissed', status };
      const { account, tenant, maxWaitMs } = request;
      const queue = queueOf(account);
      const decision = await quotaStore.admit({ books: true, ...request });
      if (decision.kind === 'admitted') {
        if (!closed) return { kind: 'admitted', slot: decision.slot, waitedMs: 0 };
        decision.slot.refund();
      }
      if (closed || decision.kind === 'admitted') return { kind: 'closed' };
      const { retryAfterMs, place } = decision;
      if (retryAfterMs <= maxWaitMs && queue.waiting(tenant) < MAX_LENGTH - queue.length) {
        request.onWait?.();
        return queue.wait(request, decision);
      }
      if (place !== undefined) quotaStore.cancel(account, tenant, place);
      return { ...decision, waitedMs: 0, timedOut: false };
    },
    waiting: (account, tenant) => queues.get(account)?.waiting(tenant) ?? 0,
    reconsider() {
      for (const queue of queues.values()) queue.reconsider();
    },
    dismiss(status) {
      tenantStatus = status;
      for (const queue of queues.values()) queue.dismiss(tenantStatus);
    },
    close() {
      closed = true;
      for (const queue of queues.values()) queue.close();
    },
  };
}
