/** @typedef {import('../../status/document.ts').Frame} Frame */
/** @typedef {import('../../status/document.ts').AccountStatus} AccountStatus */
/** @typedef {{ level: 'bad' | 'warn' | 'good', text: string }} Finding */

/** From this share of the ceiling on requests may have to wait. */
const NEARLY = 0.95;
/** Refusals that say something of a tenant, and not of a single call. */
const MANY_REFUSALS = 10;
const LARGE_SHARE = 0.1;

/**
 * What an engineer should know first, the worst first. No text has a number that moves: a screen reader would say it again
 * every two seconds.
 *
 * @param {Pick<Frame, 'status' | 'tenants'>} frame
 * @returns {Finding[]}
 */
export function findingsOf({ status, tenants }) {
  /** @type {Finding[]} */
  const found = [];
  const bad = (/** @type {string} */ text) => void found.push({ level: 'bad', text });
  const warn = (/** @type {string} */ text) => void found.push({ level: 'warn', text });

  if (status.draining) warn('This replica is draining: it ends what is in flight and stops.');
  for (const [id, account] of Object.entries(status.accounts)) aboutAccount(id, account, bad, warn);
  for (const [id, { breaker }] of Object.entries(status.upstreams)) {
    if (breaker !== 'closed') bad(`${id}: too much of it failed; nothing is sent there but a probe now and then.`);
  }
  const { kind, up, fallback } = status.state;
  if (kind === 'redis' && fallback) bad('Redis does not answer: this replica works on its share of the ceiling.');
  else if (!up) bad('Redis does not answer.');
  for (const [id, heard] of Object.entries(status.cache.inTouch)) {
    if (!heard) warn(`${id}: writes through other replicas are not heard of; cached answers are kept only briefly.`);
  }
  if (status.lastLoad.outcome === 'refused') {
    bad('The last reload was refused; the configuration before it is in force. The problems are below.');
  }
  if (status.needsRestart.length > 0)
    warn(`Changed, but only a restart puts it in force: ${status.needsRestart.join(', ')}.`);
  const refused = tenants.busiest.filter(({ recent }) => hasManyRefused(recent)).map(({ id }) => id);
  if (refused.length > 0) warn(`Many requests are refused of: ${refused.sort().join(', ')}.`);
  const worst = [...found.filter(({ level }) => level === 'bad'), ...found.filter(({ level }) => level === 'warn')];
  return worst.length > 0 ? worst : [{ level: 'good', text: 'Nothing. All is well.' }];
}

/** @param {{ requests: number, refused: number }} recent */
function hasManyRefused({ requests, refused }) {
  return refused >= MANY_REFUSALS && refused >= requests * LARGE_SHARE;
}

/**
 * @param {string} id
 * @param {AccountStatus} account
 * @param {(text: string) => void} bad
 * @param {(text: string) => void} warn
 */
function aboutAccount(id, account, bad, warn) {
  const { ceiling, slotsInUse, externalUsage, cooldownMs, credentials } = account;
  if (cooldownMs > 0) bad(`${id}: on hold, for Patchworks answered 429. Nothing is sent until the hold ends.`);
  if (slotsInUse + externalUsage >= ceiling * NEARLY) {
    warn(`${id}: the ceiling is nearly reached; requests wait or are refused.`);
  }
  if (externalUsage > 0) warn(`${id}: someone else uses this account too.`);
  const used = credentials.findIndex((each) => each.inUse);
  const [first] = credentials;
  if (used === -1) bad(`${id}: no credential works. Every call to Patchworks fails.`);
  else if (used > 0 && first !== undefined) {
    warn(
      `${id}: credential ${first.id} is out of use (${first.reason ?? 'backoff'}); ${credentials[used]?.id} stands in.`,
    );
  }
  for (const { id: name, inUse, reason, failing } of credentials) {
    if (inUse && failing && reason === null)
      warn(`${id}: credential ${name} failed when it was last used; the next call tries it again.`);
    if (inUse && reason !== null)
      warn(`${id}: the token of ${name} could not be renewed (${reason}); the present one still works.`);
  }
}
