// PromQL as the panels need it. `$namespace`, `$job` and `$instance` choose replicas everywhere; what is one number for all
// replicas and what is one of each is decided here, once.
//
// - Counters and histograms count what one replica did: the sum is the whole.
// - quota_limit, _ceiling, _slots_foreign and, while Redis answers, _slots_in_use are the account as each replica last heard
//   of it: all say the same, and a sum would count each slot once a replica. The greatest is the newest.
// - quota_waiting, http_requests_in_flight, cache_entries and cache_bytes are of one replica: the sum.

/** Without Kubernetes there is no namespace: `.*` matches that, too. */
export const DEPLOYMENT = 'namespace=~"$namespace",job=~"$job"';
const REPLICAS = `${DEPLOYMENT},instance=~"$instance"`;
export const OF_ACCOUNT = 'account=~"$account"';
export const OF_TENANT = 'tenant=~"$tenant"';

/** @param {string} name without the prefix @param {...string} matchers */
export function metric(name, ...matchers) {
  return `patchgate_${name}{${[REPLICAS, ...matchers].join(',')}}`;
}

/** Of Node and the process: without a prefix. @param {string} name @param {...string} matchers */
export function processMetric(name, ...matchers) {
  // Other programs of Node may run under the same job; only a gateway says what it is.
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

/** 0 where nothing was counted yet: a series begins with the first of its kind. @param {string} expression */
export function orZero(expression) {
  return `(${expression} or vector(0))`;
}

/** Nothing where there was nothing: 0 / 0 is not a number, and no alarm. @param {string} part @param {string} whole */
export function share(part, whole) {
  return `${part} / (${whole} > 0)`;
}

/**
 * Nothing while there was nothing to observe, instead of NaN.
 * @param {number} q @param {string} name of the histogram @param {string} by labels besides the bucket's @param {...string} matchers
 */
export function quantile(q, name, by, ...matchers) {
  const labels = by === '' ? 'le' : `le, ${by}`;
  return `histogram_quantile(${q}, ${sum(rate(`${name}_bucket`, ...matchers), labels)}) >= 0`;
}

/** What every replica says of the account alike. @param {string} name */
export function ofAccount(name) {
  return `max by (account) (${metric(name, OF_ACCOUNT)})`;
}

/**
 * Slots held. A replica without Redis counts only those it gave out of its own share: these come on top of what the others
 * see in Redis.
 */
export function slotsInUse() {
  const slots = metric('quota_slots_in_use', OF_ACCOUNT);
  const alone = `on (job, instance) group_left () ${metric('redis_fallback_active')}`;
  return `max by (account) (${slots} * on (job, instance) group_left () (1 - ${metric('redis_fallback_active')})) + ${sum(`${slots} * ${alone}`, 'account')}`;
}

/** Scrapes of the jobs that a gateway belongs to: `up` is there for replicas that are not. @param {'up' | 'down'} state */
export function replicas(state) {
  const up = `up{${REPLICAS}}`;
  return sum(
    `${state === 'up' ? up : `(${up} == bool 0)`} and on (namespace, job) patchgate_build_info{${DEPLOYMENT}}`,
  );
}
