// Judges a run by the upstream's record and the callers' log alone. The functions are pure, so that tests can present evidence of
// every violation.

/** @typedef {import('./types.ts').Evidence} Evidence */
/** @typedef {import('./types.ts').Outcome} Outcome */
/** @typedef {import('./types.ts').Fault} Fault */

const MINUTE_MS = 60_000;
/** Rejections that a caller of a busy account may receive at any time. */
const ORDINARY = {
  tight: ['tenant_quota', 'account_quota', 'queue_timeout'],
  plenty: /** @type {string[]} */ ([]),
};
/** A request that waited for Redis until its time ended may find, as Redis is back, that all the others that waited come before it. */
const UNTIL_NORMAL = ['queue_timeout'];
/** Codes for the repeat of a keyed write: the first is under way, or its result is unknown. */
const OF_REPEATS = ['idempotency_conflict', 'upstream_timeout'];
/** Rejections with these statuses must say when to retry. */
const WITH_RETRY_AFTER = new Set([429, 503]);
/** Between a kill and the last of its connections breaking. */
const BREAKING_MS = 1_000;
const NORMAL_MS = 1_000;
/** The part of the ceiling that a run must use before it proves anything about the ceiling. */
const MOSTLY = 0.9;

/** @param {Outcome} outcome what a caller saw, in few words */
export function seen({ end, status, code }) {
  if (end !== 'answered') return end;
  if (status < 300) return String(status);
  return code === null ? `upstream ${status}` : `${status} ${code}`;
}

/** @param {Outcome} outcome */
const isNormal = ({ end, status, mixed }) => end === 'answered' && status < 300 && !mixed;
/** Repeats depend on the past, and requests of `tight` are rejected on purpose. @param {Outcome} outcome */
const tellsNormality = ({ account, kind }) => account === 'plenty' && kind !== 'again';

/**
 * Returns the time from which the fleet is normal: the first second in which every request succeeded, through each gateway. Null if
 * there was none.
 * @param {readonly Outcome[]} outcomes @param {number} from @param {number} gateways
 */
export function normalSince(outcomes, from, gateways) {
  const telling = outcomes
    .filter((each) => tellsNormality(each) && each.begunAt >= from)
    .sort((a, b) => a.begunAt - b.begunAt);
  const last = telling.at(-1)?.begunAt ?? from;
  let start = from;
  /** @type {Set<number>} */
  let through = new Set();
  for (const outcome of telling) {
    if (outcome.begunAt >= start + NORMAL_MS && through.size === gateways) return start;
    if (isNormal(outcome)) through.add(outcome.gateway);
    else {
      start = outcome.begunAt + 1;
      through = new Set();
    }
  }
  return through.size === gateways && last >= start + NORMAL_MS ? start : null;
}

/** @param {readonly number[]} times sorted */
export function greatestInAnyMinute(times) {
  let greatest = 0;
  for (let to = 0, from = 0; to < times.length; to++) {
    while (/** @type {number} */ (times[from]) <= /** @type {number} */ (times[to]) - MINUTE_MS) from += 1;
    greatest = Math.max(greatest, to - from + 1);
  }
  return greatest;
}

/**
 * Writes by their mark: how often they arrived. A keyed one that was throttled may be repeated by its caller.
 * @param {Evidence} evidence @param {ReadonlySet<string>} keyed
 */
function arrivalsOfWrites({ arrived }, keyed) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { mark, write, throttled } of arrived)
    if (write && !(throttled && keyed.has(mark))) counts.set(mark, (counts.get(mark) ?? 0) + 1);
  return counts;
}

/** @param {Evidence} evidence @param {Fault} fault */
function judgeWrites(evidence, fault) {
  const keyed = new Set(evidence.outcomes.filter(({ kind }) => kind === 'keyed').map(({ mark }) => mark));
  const counts = arrivalsOfWrites(evidence, keyed);
  const repeated = new Map([...counts].filter(([, count]) => count > 1));
  const forgotten = [...repeated.keys()].filter((mark) => fault.forgetsKeys === true && keyed.has(mark));
  const duplicates = [...repeated.keys()].filter((mark) => !forgotten.includes(mark));
  const lost = evidence.outcomes.filter(
    ({ kind, mark, status }) =>
      kind !== 'read' && kind !== 'cached' && status >= 200 && status < 300 && !counts.has(mark),
  );
  return { duplicates, forgotten: forgotten.length, unsent: lost };
}

/**
 * @param {Evidence} evidence @param {Fault} fault @param {number} normalAt @param {Outcome} outcome
 * @returns {string | null} what is wrong
 */
function faultOfOutcome({ down, times }, fault, normalAt, outcome) {
  const { account, kind, end, status, code, retryAfter, gateway, begunAt, endedAt, mixed } = outcome;
  if (mixed) return 'a response to another request';
  if (end === 'silent') return 'no response at all';
  if (end === 'broken off' && fault.mayBreakOff) return null;
  if ((end === 'broken' || end === 'refused') && fault.mayBreak) return null;
  if (end !== 'answered') {
    const excused = down[gateway]?.some(({ from, to }) => begunAt <= to + BREAKING_MS && endedAt >= from);
    return excused ? null : `a connection ${end} by a gateway that lived`;
  }
  if (status < 300) return null;
  if (code === null) return fault.may.includes(`upstream ${status}`) ? null : `a response ${status} of upstream`;
  if (WITH_RETRY_AFTER.has(status) && !/^\d+$/.test(retryAfter ?? '')) return `${code} without Retry-After`;
  const waitedForRedis = fault.may.includes('state_unavailable') && endedAt >= times.injectedAt && begunAt < normalAt;
  const may = [
    ...[...fault.may, ...ORDINARY[account]],
    ...(waitedForRedis ? UNTIL_NORMAL : []),
    ...(kind === 'again' ? OF_REPEATS : []),
  ];
  return may.includes(code) ? null : `${status} ${code}`;
}

/** @param {readonly string[]} all @returns {Record<string, number>} */
function counted(all) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const each of all) counts[each] = (counts[each] ?? 0) + 1;
  return counts;
}

/**
 * @param {Evidence} evidence @param {Fault} fault @param {import('./types.ts').State} state
 * @returns {import('./types.ts').Row}
 */
export function judge(evidence, fault, state) {
  const { outcomes, arrived, times, ceiling, leaks, logs, down } = evidence;
  const since = normalSince(outcomes, times.liftedAt, down.length);
  const until = since ?? times.endedAt;
  const tight = arrived.filter(({ account }) => account === 'tight').map(({ monotonic }) => monotonic);
  const greatestIn60s = greatestInAnyMinute(tight.sort((a, b) => a - b));
  const { duplicates, forgotten, unsent } = judgeWrites(evidence, fault);
  const wrong = outcomes.map((each) => faultOfOutcome(evidence, fault, until, each)).filter((each) => each !== null);
  const mixed = outcomes.filter((each) => each.mixed).length;
  const silent = outcomes.filter(({ end }) => end === 'silent').length;
  const violations = [
    ...Object.entries(counted(wrong)).map(([what, count]) => `${count} × ${what}`),
    ...(greatestIn60s > ceiling ? [`${greatestIn60s} in 60 s, above the ceiling of ${ceiling}`] : []),
    ...duplicates.map((mark) => `write ${mark} arrived more than once`),
    ...unsent.map(({ mark }) => `write ${mark} was answered and never arrived`),
    ...(since === null ? ['not normal again within the time given'] : []),
    ...(tight.length < ceiling * MOSTLY
      ? [`no proof: of the ceiling of ${ceiling} only ${tight.length} were used`]
      : []),
    ...leaks,
    ...logs,
  ];
  const meanwhile = outcomes.filter(({ endedAt, begunAt }) => endedAt >= times.injectedAt && begunAt <= until);
  return {
    fault: fault.name,
    about: fault.about,
    state,
    requests: outcomes.length,
    saw: counted(meanwhile.map(seen)),
    recoveryMs: since === null ? null : Math.round(since - times.liftedAt),
    greatestIn60s,
    ceiling,
    duplicates: duplicates.length,
    forgotten,
    lost: unsent.length + silent,
    mixed,
    leaks,
    violations,
  };
}
