// The PromQL of the panels. `$namespace`, `$job` and `$instance` select replicas everywhere. This file alone decides which metric
// is one number for all replicas and which is one for each.
//
// - Counters and histograms belong to one replica: the sum is the whole.
// - quota_limit, _limit_advertised, _ceiling, _external_usage and, while Redis responds, _slots_in_use are the account's state as
//   each replica last received it. All are the same, and a sum would count each slot once for each replica. The greatest is the newest.
// - budget_used and tenant_budget_used grow within a period, and each replica has seen a part: the greatest is the newest.
// - quota_waiting, http_requests_in_flight, cache_entries and cache_bytes belong to one replica: the sum.

/** Without Kubernetes there is no namespace: `.*` matches that, too. */
export const DEPLOYMENT = 'namespace=~"$namespace",job=~"$job"';
const REPLICAS = `${DEPLOYMENT},instance=~"$instance"`;
export const OF_ACCOUNT = 'account=~"$account"';
export const OF_TENANT = 'tenant=~"$tenant"';

/** @param {string} name without the prefix @param {...string} matchers */
export function metric(name, ...matchers) {
  return `patchgate_${name}{${[REPLICAS, ...matchers].join(',')}}`;
}

/** A metric of Node and the process, which has no prefix. @param {string} name @param {...string} matchers */
export function processMetric(name, ...matchers) {
  // Other Node programs may run under the same job; only a gateway has build_info.
  return `${name}{${[REPLICAS, ...matchers].join(',')}} and on (job, instance) ${metric('build_info')}`;
}

/** A counter of the process, per second. @param {string} name */
export function processRate(name) {
  return `rate(${name}{${REPLICAS}}[$__rate_interval]) and on (job, instance) ${metric('build_info')}`;
}

/** Per second. @param {string} name @param {...string} matchers */
export function rate(name, ...matchers) {
  return `rate(${metric(name, ...matchers)}[$__rate_interval])`;
}

/** In the whole time shown. @param {string} name @param {...string} matchers */
export function inRange(name, ...matchers) {
  return `increase(${metric(name, ...matchers)}[$__range])`;
}

/** The unit of the quota is a minute, and so is that of all rates of requests. @param {string} expression @param {string} [by] */
export function perMinute(expression, by) {
  return `60 * ${sum(expression, by)}`;
}

/** @param {string} expression @param {string} [by] labels */
export function sum(expression, by) {
  return `sum${by === undefined ? ' ' : ` by (${by}) `}(${expression})`;
}

/** 0 before the first count: a series begins with the first of its kind. @param {string} expression */
export function orZero(expression) {
  return `(${expression} or vector(0))`;
}

/** A count that each replica has seen a part of. @param {string} expression @param {string} by labels */
export function newest(expression, by) {
  return `max by (${by}) (${expression})`;
}

/** @param {'budget' | 'tenant_budget'} kind @param {'account' | 'tenant'} owner @param {string} matcher */
export function budgetShare(kind, owner, matcher) {
  const of = (/** @type {string} */ name) => newest(metric(`${kind}_${name}`, matcher), `${owner}, budget`);
  return `${of('used')} / (${of('limit')} > 0)`;
}

/** 1: the budget would last exactly to its reset. It falls at the reset, which is no use. */
export function burnRate() {
  const of = (/** @type {string} */ name) => newest(metric(name, OF_ACCOUNT), 'account, budget');
  const perSecond = newest(`clamp_min(deriv(${metric('budget_used', OF_ACCOUNT)}[1h]), 0)`, 'account, budget');
  return `${perSecond} * (${of('budget_reset_timestamp_seconds')} - ${of('budget_start_timestamp_seconds')}) / ${of('budget_limit')}`;
}

/** Empty without requests: 0 / 0 is not a number, and no alarm. @param {string} part @param {string} whole */
export function share(part, whole) {
  return `${part} / (${whole} > 0)`;
}

/**
 * Empty instead of NaN while there are no observations.
 * @param {number} q @param {string} name of the histogram @param {string} by labels besides the bucket's @param {...string} matchers
 */
export function quantile(q, name, by, ...matchers) {
  const labels = by === '' ? 'le' : `le, ${by}`;
  return `histogram_quantile(${q}, ${sum(rate(`${name}_bucket`, ...matchers), labels)}) >= 0`;
}

/** A value of the account that every replica reports alike. @param {string} name */
export function ofAccount(name) {
  return `max by (account) (${metric(name, OF_ACCOUNT)})`;
}

/**
 * Slots in use. A replica without Redis counts only the slots of its own share: these are added to those that the others see
 * in Redis.
 */
export function slotsInUse() {
  const slots = metric('quota_slots_in_use', OF_ACCOUNT);
  const alone = `on (job, instance) group_left () ${metric('redis_fallback_active')}`;
  return `max by (account) (${slots} * on (job, instance) group_left () (1 - ${metric('redis_fallback_active')})) + ${sum(`${slots} * ${alone}`, 'account')}`;
}

/** Scrapes of the gateway's jobs: `up` exists for missing replicas too. @param {'up' | 'down'} state */
export function replicas(state) {
  const up = `up{${REPLICAS}}`;
  return sum(
    `${state === 'up' ? up : `(${up} == bool 0)`} and on (namespace, job) patchgate_build_info{${DEPLOYMENT}}`,
  );
}
