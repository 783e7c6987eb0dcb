// The simulator as a process of its own, and the judge of what reached it. Driven by messages of the soak.
import { fileURLToPath } from 'node:url';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
// The built product: by a path that the type checker does not follow.
const { createSimulator } = /** @type {typeof import('../../src/simulator/simulator.ts')} */ (
  await import(inRoot('dist/simulator/simulator.js'))
);

/** More than can arrive between two looks. */
const RECORD = 20_000;
const LOOK_MS = 500;
/** Timeout after which an arrival counts as unanswered. */
const GIVEN_UP_MS = 90_000;

/** @typedef {import('../../src/simulator/record.ts').Arrival} Arrival */
/** @type {import('../../src/simulator/control.ts').Simulator} */
const simulator = await createSimulator({
  recordSize: RECORD,
  switches: {
    limit: Number(process.argv[2]),
    arrivalLatency: { kind: 'exponential', minMs: 1, meanMs: 5, maxMs: 200 },
    responseLatency: { kind: 'exponential', minMs: 2, meanMs: 15, maxMs: 500 },
  },
});

let looked = 0;
let unseen = 0;
/** @type {Arrival[]} */
let open = [];
/** Writes that were carried out: by the digest of their body, each of which is sent by one caller once. @type {Map<string, number>} */
const done = new Map();
/** @type {{ first: number, second: number }[]} */
const twice = [];

/** @param {Arrival} arrival */
function judge({ method, target, status, bodySha256, at }) {
  // A login is no write, and always the same.
  if (method !== 'POST' || target.endsWith('/login') || bodySha256 === null || status === null || status >= 300) return;
  const first = done.get(bodySha256);
  if (first === undefined) done.set(bodySha256, at);
  else twice.push({ first, second: at });
}

function look() {
  const { arrived } = simulator.stats();
  const fresh = arrived - looked;
  looked = arrived;
  unseen += Math.max(0, fresh - RECORD);
  if (fresh > 0) open.push(...simulator.arrivals().slice(-fresh));
  const now = Date.now();
  open = open.filter((arrival) => {
    if (arrival.finishedAt === null && now - arrival.at < GIVEN_UP_MS) return true;
    judge(arrival);
    return false;
  });
}
const looking = setInterval(look, LOOK_MS);

/** @type {Record<string, (body: any) => unknown>} */
const actions = {
  fault: (rule) => simulator.fault(rule),
  clear: () => simulator.clearFaults(),
  expire: () => simulator.credentials.expireTokens(),
  report: () => {
    look();
    return { stats: simulator.stats(), writes: done.size, twice, unseen };
  },
};

process.on('message', (/** @type {{ id: number, action: string, body: unknown }} */ { id, action, body }) => {
  process.send?.({ id, reply: actions[action]?.(body) ?? null });
});
// The process that started it is gone.
process.on('disconnect', () => {
  clearInterval(looking);
  void simulator.close();
});
process.send?.({ url: simulator.url });
