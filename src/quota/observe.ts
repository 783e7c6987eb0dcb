import type { ProblemCode } from '../problem.ts';
import type { AdmissionQueue } from './admission-queue.ts';
import type {
  AccountQuota,
  Admission,
  AdmissionRequest,
  AdvertisedLimit,
  Decision,
  QuotaPlan,
  QuotaStore,
  Slot,
  TenantQuota,
} from './quota-store.ts';

/*
 * `enforcement: observe`. The rate of an observed tenant does not hold it back. A second store, with accounts that have more
 * slots than they need, decides on each of its requests as if its rate were enforced: with the same buckets, waits and appointments, on all
 * replicas together. A request that it would reject spends nothing there.
 */

/** As much as the configuration allows. */
const UNLIMITED = 10_000_000;
/** More than can be sent in a month. */
const UNLIMITED_BUDGET = 1e12;

/**
 * An account with more slots than its observed tenants can use: only their own rates decide. No more than that, because the
 * replicas enter as many slots as its burst into a Redis that has lost its memory.
 */
function roomyAccount(tenants: ReadonlyMap<string, TenantQuota>, budgets: AccountQuota['budgets']): AccountQuota {
  const sum = (pick: (quota: TenantQuota) => number): number =>
    [...tenants.values()].reduce((total, each) => total + pick(each), 0);
  const burst = Math.min(10_000, 500 + 2 * Math.ceil(sum((quota) => quota.burst)));
  const ceiling = Math.min(300_000, 10_000 + 10 * Math.ceil(sum((quota) => quota.rate + quota.burst)));
  const roomy = budgets && new Map([...budgets].map(([id, budget]) => [id, { ...budget, limit: UNLIMITED_BUDGET }]));
  return { limit: ceiling + 1, ceiling, burst, adoptLimit: false, coldStart: 'idle', ...(roomy && { budgets: roomy }) };
}

/** For the store that admits requests: the rates of observed tenants, and their parts of budgets, do not hold. */
export function enforcedPlan({ accounts, tenants }: QuotaPlan): QuotaPlan {
  const roomy = (quota: TenantQuota): TenantQuota => {
    if (quota.observed !== true) return quota;
    const { budgets: _, ...rest } = quota;
    return { ...rest, rate: UNLIMITED, burst: UNLIMITED };
  };
  return { accounts, tenants: mapTenants(tenants, (all) => [...all].map(([id, quota]) => [id, roomy(quota)])) };
}

/** For the store that predicts. Without observed tenants it has no account, and costs nothing. */
export function observedPlan({ accounts, tenants }: QuotaPlan): QuotaPlan {
  const observed = mapTenants(tenants, (all) =>
    [...all].flatMap(([id, quota]) => (quota.observed === true ? [[id, { ...quota, weight: 1, reserved: 0 }]] : [])),
  );
  for (const [account, all] of observed) if (all.size === 0) observed.delete(account);
  const roomy = [...observed].map(([id, all]) => [id, roomyAccount(all, accounts.get(id)?.budgets)] as const);
  return { accounts: new Map(roomy), tenants: observed };
}

function mapTenants(
  tenants: QuotaPlan['tenants'],
  map: (all: ReadonlyMap<string, TenantQuota>) => [string, TenantQuota][],
): Map<string, Map<string, TenantQuota>> {
  return new Map([...tenants].map(([account, all]) => [account, new Map(map(all))]));
}

/** Both stores as one: an observed tenant sees its own quota, as if it were enforced. */
export function observingQuotaStore(enforced: QuotaStore, observed: QuotaStore, first: QuotaPlan): QuotaStore {
  let plan = first;
  return {
    admit: (request) => enforced.admit(request),
    cancel: (account, tenant, place) => enforced.cancel(account, tenant, place),
    configure(next) {
      plan = next;
      enforced.configure(enforcedPlan(next));
      observed.configure(observedPlan(next));
    },
    peek(account, tenant) {
      const isObserved = plan.tenants.get(account)?.get(tenant)?.observed === true;
      return (isObserved ? observed : enforced).peek(account, tenant);
    },
    view: (account) => enforced.view(account),
  };
}

const NOTHING_SEEN: AdvertisedLimit = { limit: null, remaining: null, throttled: null };

/**
 * Admits a request of an observed tenant, and predicts beside that what its rate would have done. Returns when both are known.
 *
 * @param admit takes the real slot
 * @param onReject called at most once; later than this returns for a request that would have waited in vain
 */
export async function admitObserved<T extends Admission | Decision>(
  admit: () => Promise<T>,
  observedQueue: AdmissionQueue,
  request: AdmissionRequest,
  onReject: (code: ProblemCode) => void,
): Promise<T> {
  const prediction = predict(observedQueue, request, onReject);
  const admission = await admit();
  await prediction.decided;
  if (admission.kind === 'admitted') return { ...admission, slot: prediction.follow(admission.slot) };
  prediction.dismiss();
  return admission;
}

function predict(queue: AdmissionQueue, request: AdmissionRequest, onReject: (code: ProblemCode) => void) {
  let predicted: Slot | null = null;
  let end: ((slot: Slot) => void) | null = null;
  const endWith = (how: (slot: Slot) => void): void => {
    end ??= how;
    if (predicted !== null) end(predicted);
  };
  const take = (admission: Admission): void => {
    if (admission.kind === 'admitted') {
      predicted = admission.slot;
      if (end !== null) end(predicted);
    } else if (admission.kind === 'rejected' && admission.by === 'budget') onReject('budget_exhausted');
    else if (admission.kind === 'rejected' && (admission.by === 'tenant' || admission.by === 'account'))
      // The account has slots enough: an earlier request of the tenant is first.
      onReject(admission.timedOut ? 'queue_timeout' : 'tenant_quota');
  };
  const complete = (): void => endWith((slot) => slot.complete(NOTHING_SEEN));
  const refund = (): void => endWith((slot) => slot.refund());
  return {
    /** Resolves when it is known whether the request would be sent, wait, or be rejected at once. */
    decided: new Promise<void>((resolve) => {
      // A prediction that fails must not fail the request.
      queue
        .enter({ ...request, onWait: resolve })
        .then(take)
        .then(resolve, () => resolve());
    }),
    /** The predicted slot ends as the real one does: a token goes back where the real one does. */
    follow: (real: Slot): Slot => ({
      complete(seen) {
        real.complete(seen);
        complete();
      },
      lose(latestArrivalMs) {
        real.lose(latestArrivalMs);
        complete();
      },
      refund() {
        real.refund();
        refund();
      },
    }),
    /** The request gets no slot, for another reason. */
    dismiss: refund,
  };
}
