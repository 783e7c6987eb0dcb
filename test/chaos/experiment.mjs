// A run puts a fleet under load and injects one fault at a known moment. It goes on until the fleet is normal again, then looks for
// leaks and judges the evidence.
import { CEILING, configuration, GENEROUS, SIMULATOR } from './configuration.mjs';
import { startFleet } from './fleet.mjs';
import { judge, normalSince } from './judge.mjs';
import { footprint, leaksOf } from './leaks.mjs';
import { startLoad } from './load.mjs';
import { pause, until } from './rig.mjs';

/** @typedef {import('./types.ts').Fleet} Fleet */
/** @typedef {import('./types.ts').Fault} Fault */
/** @typedef {{ short?: boolean }} Length */

const LASTS_MS = 4_000;
/** Longer than any wait of a recovering replica: a new Redis takes 2 s, a breaker 5 s, a cooldown 10 s. */
const RECOVERY_MS = 30_000;
/** Before the fault nothing is judged: a machine may be busy with other things. */
const BUSY_MS = 60_000;
const BEFORE_MS = { short: 500, long: 1_500 };
/** Forgotten slots show only after the fleet seems normal again. */
const AFTER_MS = { short: 3_000, long: 5_000 };
/** The default is 100 ms; a machine that runs other things too stands still for longer than that. */
const REDIS_TIMEOUT = '1s';
const LOAD = { short: { callers: 6, thinkMs: 40 }, long: { callers: 12, thinkMs: 40 } };

/**
 * @param {Fault} fault @param {import('./types.ts').State} state @param {Length} [length]
 * @returns {Promise<import('./types.ts').Row>}
 */
export async function experiment(fault, state, { short = false } = {}) {
  const fleet = await startFleet({
    state,
    configuration: (ways) => configuration(ways, (short ? undefined : fault.redisTimeout) ?? REDIS_TIMEOUT),
    simulator: SIMULATOR,
    ...(fault.setup && { setup: fault.setup }),
  });
  try {
    await untilShared(fleet);
    const before = fleet.gateways.map(footprint);
    const load = startLoad(fleet.gateways, short ? LOAD.short : LOAD.long);
    const begunAt = performance.now();
    await untilNormal(load.outcomes, begunAt, fleet, BUSY_MS);
    await until('the small ceiling is nearly used up', load.ready, BUSY_MS);
    await pause(short ? BEFORE_MS.short : BEFORE_MS.long);
    fleet.simulator.set(GENEROUS);
    load.crowd();
    const injectedAt = performance.now();
    const injected = await fault.inject(fleet);
    await pause((short ? fault.lastsMs : (fault.longMs ?? fault.lastsMs)) ?? LASTS_MS);
    await fault.lift?.(fleet, injected);
    const liftedAt = performance.now();
    await untilNormal(load.outcomes, liftedAt, fleet, RECOVERY_MS).catch(() => {});
    await pause(short ? AFTER_MS.short : AFTER_MS.long);
    await load.stop();
    const endedAt = performance.now();
    const leaks = await leaksOfAll(fleet, before);
    const times = { begunAt, injectedAt, liftedAt, endedAt };
    const down = fleet.gateways.map((each) => each.down);
    const evidence = {
      outcomes: load.outcomes,
      arrived: arrivedAt(fleet),
      times,
      ceiling: CEILING,
      down,
      leaks,
      logs: logsOf(fleet, fault),
    };
    const row = judge(evidence, fault, state);
    return { ...row, violations: [...row.violations, ...((await fault.check?.(fleet)) ?? [])] };
  } finally {
    await fleet.close();
  }
}

/** @param {Fleet} fleet @param {readonly import('./leaks.mjs').Footprint[]} before */
async function leaksOfAll({ redis, gateways }, before) {
  const more = redis.state === 'cluster' ? redis.nodes.length : 0;
  const leaks = [];
  for (const [index, gateway] of gateways.entries())
    leaks.push(...(await leaksOf(gateway, /** @type {import('./leaks.mjs').Footprint} */ (before[index]), more)));
  return leaks;
}

/** Waits until each replica knows the others, and has a share of each account that it may use alone. @param {Fleet} fleet */
async function untilShared({ redis, gateways }) {
  const holder = await redis.holder();
  for (const account of ['plenty', 'tight'])
    await until(`all replicas have a share of ${account}`, async () => {
      const members = JSON.parse((await holder.client().hget(`patchgate:{${account}}:quota`, 'members')) ?? '{}');
      const shares = Object.values(members);
      return shares.length === gateways.length && shares.every(({ share }) => share > 0);
    });
}

/** @param {readonly import('./types.ts').Outcome[]} outcomes @param {number} from @param {Fleet} fleet @param {number} withinMs */
const untilNormal = (outcomes, from, { gateways }, withinMs) =>
  until('all is normal', () => normalSince(outcomes, from, gateways.length) !== null, withinMs);

/** @param {Fleet} fleet @returns {import('./types.ts').Arrived[]} */
function arrivedAt({ simulator }) {
  return simulator.arrivals().map(({ target, method, monotonic, status }) => {
    const mark = /[?&]mark=(\w+)/.exec(target)?.[1] ?? '';
    return {
      mark,
      account: mark.startsWith('t') ? 'tight' : 'plenty',
      write: method === 'POST',
      throttled: status === 429,
      monotonic,
    };
  });
}

/** @param {Fleet} fleet @param {Fault} fault lines that belong to it are expected @returns {string[]} */
function logsOf({ gateways }, { logs }) {
  return gateways.flatMap(({ index, lines, stderr }) => [
    ...lines
      .filter(({ level, msg }) => level !== 'warn' && !logs?.test(msg))
      .map(({ level, msg }) => `gateway ${index} logged ${level}: ${msg}`),
    ...stderr
      .filter((text) => !logs?.test(text))
      .map((text) => `gateway ${index} wrote to standard error: ${text.slice(0, 300)}`),
  ]);
}
