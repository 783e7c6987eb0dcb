// The schedule of the faults of a soak: when each begins, when it is lifted, and how long its traces may last.

/**
 * @typedef {object} Happening
 * @property {string} name
 * @property {number} from seconds since the start
 * @property {number} to when it is lifted
 * @property {number} calmFrom when its traces are gone: a breaker is closed again, a window has passed
 */

/** Seconds of a cycle. Shorter cycles have the same faults in proportion, close together so that a calm period is left. */
const CYCLE = 300;
const FAULTS = [
  { name: 'redis', at: 10, lasts: 6, after: 15 },
  { name: 'upstream stalls', at: 40, lasts: 8, after: 40 },
  { name: 'upstream answers 503', at: 75, lasts: 8, after: 40 },
  { name: 'token revoked', at: 126, lasts: 0, after: 10 },
  { name: 'surge', at: 130, lasts: 20, after: 62 },
];
/** Requests under way at the start of a fault were sent up to this long before. */
const BEFORE = 6;
const WARM_UP = 10;
const LEAST_CYCLES = 3;
export const RELOAD_EVERY = 60;

/** Thirds of a run must be alike: at least one whole cycle each. @param {number} seconds of the run */
export const cycleOf = (seconds) => Math.min(CYCLE, seconds / LEAST_CYCLES);

/** @param {number} seconds of the run @returns {Happening[]} */
export function scheduleOf(seconds) {
  const cycle = cycleOf(seconds);
  const scale = cycle / CYCLE;
  const cycles = Math.floor(seconds / cycle + 0.01);
  return Array.from({ length: cycles }, (_, index) =>
    FAULTS.map(({ name, at, lasts, after }) => {
      const from = index * cycle + at * scale;
      const to = from + lasts * scale;
      // By turns: killed, and back with empty memory; or hung, with its connections open.
      const redis = index % 2 === 0 ? 'Redis is killed' : 'Redis hangs';
      return { name: name === 'redis' ? redis : name, from, to, calmFrom: to + after * scale };
    }),
  ).flat();
}

/** Whether nothing is wrong, has been lately, or will be soon. @param {readonly Happening[]} schedule @param {number} from @param {number} to */
export function isCalm(schedule, from, to) {
  return from >= WARM_UP && schedule.every((each) => to <= each.from - BEFORE || from >= each.calmFrom);
}

/**
 * @param {{ stage: import('./stage.mjs').Stage, generator: import('./generator.mjs').Generator, tell: (line: string) => void }} course
 * @returns {Record<string, { begin: () => unknown, lift: () => unknown }>}
 */
function actionsOf({ stage, generator }) {
  const { upstream, redis } = stage;
  const everywhere = (/** @type {object} */ fault) => upstream.ask('fault', { match: '* /api/v1/**', fault });
  const clear = () => upstream.ask('clear');
  return {
    'Redis is killed': { begin: redis.kill, lift: redis.start },
    'Redis hangs': { begin: redis.stop, lift: redis.resume },
    'upstream stalls': { begin: () => everywhere({ kind: 'stall', when: 'before' }), lift: clear },
    'upstream answers 503': { begin: () => everywhere({ kind: 'status', status: 503 }), lift: clear },
    'token revoked': { begin: () => upstream.ask('expire'), lift: () => {} },
    surge: { begin: () => generator.setSurge(0.3), lift: () => generator.setSurge(0) },
  };
}

/**
 * Lets happen what is due, and reloads each minute.
 * @param {readonly Happening[]} schedule @param {number} seconds
 * @param {Parameters<typeof actionsOf>[0]} course
 */
export async function letHappen(schedule, seconds, course) {
  const actions = actionsOf(course);
  /** @type {{ at: number, what: string, run: () => unknown }[]} */
  const events = schedule.flatMap(({ name, from, to }) => [
    { at: from, what: name, run: () => actions[name]?.begin() },
    { at: to, what: `${name}: lifted`, run: () => actions[name]?.lift() },
  ]);
  const every = RELOAD_EVERY * Math.min(1, seconds / (CYCLE * LEAST_CYCLES));
  for (let at = every / 2, revision = 1; at < seconds; at += every, revision++) {
    events.push({ at, what: 'reload', run: () => course.stage.reload(revision) });
  }
  for (const { at, what, run } of events.sort((a, b) => a.at - b.at)) {
    const waitMs = (at - course.generator.seconds()) * 1000;
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (what !== 'reload') course.tell(`${at.toFixed(0)} s: ${what}`);
    await run();
  }
}
