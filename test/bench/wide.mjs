// npm run wide [-- --tenants 10000 --entries 100000 --write]: a gateway with many tenants and a large cache beside one with few,
// each with a Redis of its own, asked in turns.
import { parseArgs } from 'node:util';
import { cleanUp, cleanUpAtTheEnd } from '../chaos/rig.mjs';
import { machine, quantile, table, writeSection } from './page.mjs';
import { fill, hits, openWorld, readings, reload, startOrigin } from './wide/world.mjs';

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    tenants: { type: 'string', default: '10000' },
    entries: { type: 'string', default: '100000' },
    write: { type: 'boolean', default: false },
  },
});
const ROUNDS = 5;
const REQUESTS = 2_000;

/** @typedef {Awaited<ReturnType<typeof openWorld>>} World */

/** @param {World} world */
async function measured(world) {
  /** @type {Record<'ms' | 'cpu' | 'metricsMs' | 'metricsKb' | 'statusMs' | 'statusKb' | 'reloadMs' | 'heldUpMs', number[]>} */
  const lists = {
    ms: [],
    cpu: [],
    metricsMs: [],
    metricsKb: [],
    statusMs: [],
    statusKb: [],
    reloadMs: [],
    heldUpMs: [],
  };
  return {
    world,
    lists,
    /** One turn of each. */
    async round() {
      const hit = await hits(world, REQUESTS);
      lists.ms.push(...hit.ms);
      lists.cpu.push(hit.cpuUs);
      for (const [name, path] of /** @type {const} */ ([
        ['metrics', '/metrics'],
        ['status', '/status'],
      ])) {
        const { ms, bytes } = await readings(world, path);
        lists[`${name}Ms`].push(ms);
        lists[`${name}Kb`].push(bytes / 1024);
      }
      const { ms, longestHitMs } = await reload(world);
      lists.reloadMs.push(ms);
      lists.heldUpMs.push(longestHitMs);
    },
  };
}

const origin = await startOrigin();
const worlds = [];
for (const spec of [
  { tenants: 10, entries: 100 },
  { tenants: Number(values.tenants), entries: Number(values.entries) },
]) {
  const world = await openWorld({ ...spec, origin: origin.url });
  await fill(world);
  worlds.push(await measured(world));
  process.stdout.write(`${spec.tenants} tenants, ${spec.entries} entries: filled\n`);
}
for (let i = 0; i < ROUNDS; i++) for (const each of worlds) await each.round();
const ends = await Promise.all(worlds.map(({ world }) => world.memory()));

const [few, many] = worlds;
if (few === undefined || many === undefined) throw new Error('there are two');
const of = (/** @type {keyof typeof few.lists} */ what, part = 0.5) =>
  [few, many].map(({ lists }) => quantile(lists[what], part));
/** @param {string} what @param {readonly number[]} pair @param {number} [digits] */
const row = (what, [one = 0, other = 0], digits = 1) => [
  what,
  one.toFixed(digits),
  other.toFixed(digits),
  (other / one).toFixed(2),
];
const both = (/** @type {(world: World) => number} */ pick) => [few, many].map(({ world }) => pick(world));
const text = table([
  [
    '',
    `${few.world.tenants} tenants, ${few.world.entries} entries`,
    `${many.world.tenants} tenants, ${many.world.entries} entries`,
    'ratio',
  ],
  row(
    'configuration, KiB',
    both(({ configBytes }) => configBytes / 1024),
    0,
  ),
  row(
    '`patchgate check`, s',
    both(({ checkMs }) => checkMs / 1000),
    2,
  ),
  row(
    'from exec to listening, s',
    both(({ startMs }) => startMs / 1000),
    2,
  ),
  row(
    'reload of one changed tenant, s',
    of('reloadMs').map((ms) => ms / 1000),
    2,
  ),
  row('longest wait of a hit during a reload, ms', of('heldUpMs')),
  row('cached hit, p50, ms', of('ms'), 3),
  row('cached hit, p99, ms', of('ms', 0.99), 3),
  row('CPU of the gateway a hit, µs', of('cpu'), 0),
  row(
    'RSS, MB',
    ends.map(({ rssMb }) => rssMb),
    0,
  ),
  row(
    'heap in use, MB',
    ends.map(({ heapMb }) => heapMb),
    0,
  ),
  row('/metrics, KiB', of('metricsKb'), 0),
  row('/metrics, ms', of('metricsMs')),
  row('/status, KiB', of('statusKb'), 0),
  row('/status, ms', of('statusMs')),
  row(
    'memory of Redis, MB',
    ends.map(({ redisMb }) => redisMb),
  ),
  row(
    'keys in Redis',
    ends.map(({ redisKeys }) => redisKeys),
    0,
  ),
  row(
    'responses in memory',
    ends.map(({ entries }) => entries),
    0,
  ),
]);
for (const { world } of worlds) await world.close();
origin.close();
cleanUp();
process.stdout.write(`${text}\n`);
if (values.write) {
  const about = `Medians of ${ROUNDS} turns, ${REQUESTS} hits a turn on one connection, each with the key of another tenant. ${machine()}.`;
  writeSection('docs/scale.md', 'wide', `${about}\n\n${text}`);
}
process.exit(0);
