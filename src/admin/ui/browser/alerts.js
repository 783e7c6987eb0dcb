import { count, duration, roughly } from './format.js';

/** @typedef {import('../../status/document.ts').Frame} Frame */
/** @typedef {import('../../status/document.ts').AccountStatus} AccountStatus */
/**
 * `detail` has the numbers, which change. `runbook` is a section of docs/operations.md.
 * @typedef {{ level: 'bad' | 'warn' | 'good', text: string, detail: string, runbook: string }} Alert
 */
/** @typedef {(text: string, detail?: string, runbook?: string) => void} Add */

/** Above this share of the ceiling, requests may have to wait. */
const NEARLY = 0.95;
/** Fewer rejections say nothing of a tenant. */
const MANY_REFUSALS = 10;
const LARGE_SHARE = 0.1;

/**
 * Conditions that need attention, the worst first. No text has a number that changes, because a screen reader would repeat the text
 * every two seconds: numbers are in the detail.
 *
 * @param {Pick<Frame, 'status' | 'tenants'>} frame
 * @returns {Alert[]}
 */
export function alertsOf({ status, tenants }) {
  /** @type {Alert[]} */
  const found = [];
  /** @type {Add} */
  const bad = (text, detail = '', runbook = '') => void found.push({ level: 'bad', text, detail, runbook });
  /** @type {Add} */
  const warn = (text, detail = '', runbook = '') => void found.push({ level: 'warn', text, detail, runbook });

  if (status.draining) warn('This replica is draining: it finishes requests in flight and stops.');
  for (const [id, account] of Object.entries(status.accounts)) aboutAccount(id, account, bad, warn);
  for (const [id, { breaker, breakerTenant, openForMs }] of Object.entries(status.upstreams)) {
    const scope = breakerTenant === null ? '' : ` for ${breakerTenant}`;
    if (breaker !== 'closed')
      bad(
        `${id}: the circuit breaker is ${breaker}${scope}, because too many requests failed.`,
        openForMs > 0 ? `Requests pass again in ${duration(openForMs)}.` : '',
        'patchgatebreakeropen',
      );
  }
  const { kind, up, fallback, problem, eviction } = status.state;
  const redis = problem === null ? 'Redis does not answer' : `Redis cannot be used (${problem.reason})`;
  if (kind === 'embedded' && problem !== null)
    bad(`The counts of budgets cannot be written (${problem.reason}): a restart would lose them.`);
  else if (kind === 'redis' && fallback)
    bad(`${redis}: this replica uses its share of the ceiling.`, '', 'patchgatefallbackactive');
  else if (!up) bad(`${redis}.`, '', 'patchgateredisdown');
  else if (problem !== null) warn(`${redis}.`);
  if (eviction?.removes)
    warn(`Redis removes keys when its memory is full (${eviction.policy}): set maxmemory-policy noeviction.`);
  for (const [id, connected] of Object.entries(status.cache.inTouch)) {
    if (!connected)
      warn(`${id}: invalidations by other replicas do not arrive; cached responses are kept only briefly.`);
  }
  for (const { port, address, forMs, isTrustedProxy, sendsForwardedFor } of status.blocked.addresses) {
    const what = `${address} is blocked at the ${port} port, after too many wrong keys or tokens`;
    const [detail, runbook] = [`For ${duration(forMs)}.`, 'patchgateaddressblocked'];
    if (isTrustedProxy)
      warn(`${what}. It is a trusted proxy that names no caller: valid ones still pass.`, detail, runbook);
    else if (sendsForwardedFor)
      bad(`${what}. It seems to be a proxy: list it in listen.trustedProxies.`, detail, runbook);
    else warn(`${what}. If it is a proxy, list it in listen.trustedProxies.`, detail, runbook);
  }
  const unlisted = status.blocked.count - status.blocked.addresses.length;
  if (unlisted > 0) warn('More addresses are blocked: see the log.');
  if (status.lastLoad.outcome === 'refused') {
    bad(
      'The last reload was refused; the old configuration stays in force. See the problems below.',
      '',
      'patchgatereloadfailed',
    );
  }
  if (status.needsRestart.length > 0) warn(`Changed, but needs a restart: ${status.needsRestart.join(', ')}.`);
  const { expired, ending, unused } = status.keys;
  const [rotate, expiring, ended] = ['rotate-a-tenants-key', 'patchgatetenantkeyexpiring', 'patchgatetenantkeyexpired'];
  if (expired.count > 0) warn(`Keys that have expired, and are still configured: ${namesIn(expired)}.`, '', ended);
  if (ending.count > 0) warn(`Keys that expire within 14 days: ${namesIn(ending)}.`, '', expiring);
  if (unused.count > 0) warn(`Keys that were not used for 30 days: ${namesIn(unused)}.`, '', rotate);
  const span = roughly(status.recentSeconds * 1000);
  const refused = tenants.busiest.filter(({ recent }) => hasManyRefused(recent));
  if (refused.length > 0) {
    const numbers = refused.map(({ id, recent }) => `${id} ${count(recent.refused)} of ${count(recent.requests)}`);
    const names = refused.map(({ id }) => id).sort();
    warn(
      `Many requests are rejected: ${names.join(', ')}.`,
      `In ${span}: ${numbers.join(', ')}.`,
      'patchgatetenantstarved',
    );
  }
  if (status.unattributed.refused >= MANY_REFUSALS) {
    const numbers = `${count(status.unattributed.refused)} in ${span}.`;
    warn(
      'Requests of no tenant are rejected: unknown keys or paths. The log has addresses and codes.',
      numbers,
      'patchgateaddressblocked',
    );
  }
  const worst = [...found.filter(({ level }) => level === 'bad'), ...found.filter(({ level }) => level === 'warn')];
  return worst.length > 0 ? worst : [{ level: 'good', text: 'Nothing. All is well.', detail: '', runbook: '' }];
}

/** @param {import('../../status/document.ts').KeyNames} names */
function namesIn({ count, first }) {
  const more = count - first.length;
  return more === 0 ? first.join(', ') : `${first.join(', ')} and ${more} more, see /status`;
}

/** @param {{ requests: number, refused: number }} recent */
function hasManyRefused({ requests, refused }) {
  return refused >= MANY_REFUSALS && refused >= requests * LARGE_SHARE;
}

/**
 * @param {string} id
 * @param {AccountStatus} account
 * @param {Add} bad
 * @param {Add} warn
 */
function aboutAccount(id, account, bad, warn) {
  const { limit, advertisedLimit, ceiling, slotsInUse, externalUsage, cooldownMs, credentials } = account;
  if (cooldownMs > 0)
    bad(
      `${id}: in cooldown, because Patchworks answered 429. Nothing is sent until it ends.`,
      `${duration(cooldownMs)} left.`,
      'patchgateaccountcooldown',
    );
  if (slotsInUse + externalUsage >= ceiling * NEARLY) {
    const used = `${count(slotsInUse + externalUsage)} of ${count(ceiling)} a minute are used, ${count(account.waiting)} wait.`;
    warn(`${id}: the ceiling is nearly reached; requests wait or are rejected.`, used, 'patchgateceilingnear');
  }
  if (advertisedLimit !== null && advertisedLimit < limit) {
    const numbers = `${count(advertisedLimit)} a minute instead of ${count(limit)}.`;
    warn(`${id}: Patchworks advertises a lower limit than configured.`, numbers, 'patchgatelimitlowered');
  }
  if (externalUsage > 0)
    warn(
      `${id}: external usage: requests are sent with this account outside the gateway.`,
      `${count(externalUsage)} in the last minute.`,
      'patchgateexternalusage',
    );
  for (const [name, { left, used, limit: most, warnAt, endsInMs, resetsInMs }] of Object.entries(account.budgets)) {
    const numbers = `${count(used)} of ${count(most ?? 0)} used; reset in ${roughly(resetsInMs)}.`;
    const isHigh = warnAt !== null && used >= warnAt;
    if (left === 0)
      bad(
        `${id}: the budget ${name} is used up; its requests are rejected until the reset.`,
        numbers,
        'patchgatebudgetusedup',
      );
    else if (endsInMs !== null)
      warn(
        `${id}: the budget ${name} is used up before its reset, at the rate so far.`,
        numbers,
        'patchgatebudgetendsearly',
      );
    else if (isHigh) warn(`${id}: the budget ${name} is nearly used up.`, numbers, 'patchgatebudgetnear');
  }
  const used = credentials.findIndex((each) => each.inUse);
  const [first] = credentials;
  if (used === -1)
    bad(`${id}: no credential works. Every request to Patchworks fails.`, '', 'patchgatecredentialsrejected');
  else if (used > 0 && first !== undefined && !first.named) {
    warn(
      `${id}: credential ${first.id} is not used (${first.reason ?? 'backoff'}); ${credentials[used]?.id} replaces it.`,
    );
  }
  for (const { id: name, named, inUse, reason, failing } of credentials) {
    if (named && !inUse && used !== -1)
      bad(
        `${id}: credential ${name} is rejected. Every request of the routes that name it fails.`,
        '',
        'patchgatecredentialfailing',
      );
    if (inUse && failing && reason === null)
      warn(`${id}: credential ${name} failed when it was last used; the next request tries it again.`);
    if (inUse && reason !== null)
      warn(`${id}: the token of ${name} could not be renewed (${reason}); the current token still works.`);
  }
}
