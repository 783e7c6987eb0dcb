// The callers. Those of `plenty` mix everything all the time; those of `tight` take nearly all of their ceiling before the
// fault, and want all they can get from then on.
import { ask, newAgent } from './caller.mjs';
import { CEILING, LEFT, TENANTS } from './configuration.mjs';
import { pause } from './rig.mjs';

/** @typedef {import('./types.ts').Outcome} Outcome */
/** @typedef {import('./types.ts').Kind} Kind */

const CACHED_MARKS = 12;
const EARLY_THINK_MS = 10;
/** Keyed writes that may be repeated; the latest. */
const MOST_REPEATABLE = 40;
/** Kinds of requests to `plenty`, with their share. @type {readonly [Kind, number][]} */
const MIX = [
  ['cached', 0.35],
  ['read', 0.25],
  ['write', 0.2],
  ['keyed', 0.1],
  ['again', 0.1],
];

const oneOf = (/** @type {readonly string[]} */ all) => all[Math.floor(Math.random() * all.length)] ?? '';

/** @returns {Kind} */
function drawn() {
  let left = Math.random();
  for (const [kind, part] of MIX) {
    left -= part;
    if (left < 0) return kind;
  }
  return 'read';
}

/** @param {readonly import('./types.ts').Gateway[]} gateways @param {{ callers: number, thinkMs: number }} options */
export function startLoad(gateways, { callers, thinkMs }) {
  /** @type {Outcome[]} */
  const outcomes = [];
  /** Answered well, each by its tenant: an Idempotency-Key is the tenant's. @type {{ mark: string, tenant: string }[]} */
  const repeatable = [];
  const agents = gateways.map(newAgent);
  const early = CEILING - LEFT;
  let [marks, going, crowd, taken] = [0, true, false, 0];

  /** @param {import('./types.ts').Account} account @param {Kind} kind @param {string} mark @param {string} tenant */
  const call = async (account, kind, mark, tenant) => {
    const which = Math.floor(Math.random() * gateways.length);
    const gateway = /** @type {import('./types.ts').Gateway} */ (gateways[which]);
    const outcome = await ask(
      gateway,
      { account, kind, mark, tenant },
      /** @type {import('node:http').Agent} */ (agents[which]),
    );
    outcomes.push(outcome);
    return outcome;
  };
  const fresh = (/** @type {string} */ letter) => `${letter}${marks++}`;

  const mixed = async () => {
    while (going) {
      const kind = drawn();
      const before = kind === 'again' ? repeatable[Math.floor(Math.random() * repeatable.length)] : undefined;
      if (before !== undefined) await call('plenty', 'again', before.mark, before.tenant);
      else {
        const asked = kind === 'again' ? 'keyed' : kind;
        const mark = asked === 'cached' ? `c${Math.floor(Math.random() * CACHED_MARKS)}` : fresh(asked.charAt(0));
        const tenant = oneOf(TENANTS.plenty);
        await call('plenty', asked, mark, tenant);
        // Failed writes are repeated too: a caller without a response retries.
        if (asked === 'keyed') repeatable.push({ mark, tenant });
        if (repeatable.length > MOST_REPEATABLE) repeatable.shift();
      }
      await pause(thinkMs * (0.5 + Math.random()));
    }
  };
  const crowding = async () => {
    while (going) {
      if (!crowd && taken >= early) await pause(20);
      else {
        taken += 1;
        const { status } = await call('tight', 'read', fresh('t'), oneOf(TENANTS.tight));
        if (status !== 200) taken -= 1;
        await pause((crowd ? thinkMs : EARLY_THINK_MS) * (0.5 + Math.random()));
      }
    }
  };
  const all = [...Array.from({ length: callers }, mixed), ...Array.from({ length: Math.ceil(callers / 2) }, crowding)];
  return {
    outcomes,
    /** Whether those of `tight` have what they take before the fault. */
    ready: () => taken >= early,
    /** From now on those of `tight` want everything. */
    crowd() {
      crowd = true;
    },
    async stop() {
      going = false;
      await Promise.all(all);
      for (const agent of agents) agent.destroy();
    },
  };
}
