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
    /** Runs each measurement once. */
    async round() {
      const hit = await hits(world, REQUESTS);
      lists.ms.push(...hit.ms);
      lists.cpu.push(hit.cpuUs);
      for (const name of /** @type {const} */ (['metrics', 'status'])) {
        const { ms, bytes } = await readings(world, `/${name}`);
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

/** @typedef {(typeof worlds)[number] & { end: Awaited<ReturnType<World['memory']>> }} Measured */
/** @type {Measured[]} */
const ends = [];
for (const each of worlds) ends.push({ ...each, end: await each.world.memory() });
const median = (/** @type {keyof Measured['lists']} */ what) => (/** @type {Measured} */ each) =>
  quantile(each.lists[what], 0.5);
/** @type {[what: string, digits: number, of: (measured: Measured) => number][]} */
const ROWS = [
  ['configuration, KiB', 0, ({ world }) => world.configBytes / 1024],
  ['`patchgate check`, s', 2, ({ world }) => world.checkMs / 1000],
  ['from exec to listening, s', 2, ({ world }) => world.startMs / 1000],
  ['reload of one changed tenant, s', 2, (each) => median('reloadMs')(each) / 1000],
  ['longest wait of a hit during a reload, ms', 1, median('heldUpMs')],
  ['cached hit, p50, ms', 3, median('ms')],
  ['cached hit, p99, ms', 3, ({ lists }) => quantile(lists.ms, 0.99)],
  ['CPU of the gateway a hit, µs', 0, median('cpu')],
  ['RSS, MB', 0, ({ end }) => end.rssMb],
  ['heap in use, MB', 0, ({ end }) => end.heapMb],
  ['/metrics, KiB', 0, median('metricsKb')],
  ['/metrics, ms', 1, median('metricsMs')],
  ['/status, KiB', 0, median('statusKb')],
  ['/status, ms', 1, median('statusMs')],
  ['memory of Redis, MB', 1, ({ end }) => end.redisMb],
  ['keys in Redis', 0, ({ end }) => end.redisKeys],
  ['answers in memory', 0, ({ end }) => end.entries],
];
const text = table([
  ['', ...ends.map(({ world }) => `${world.tenants} tenants, ${world.entries} entries`), 'ratio'],
  ...ROWS.map(([what, digits, of]) => {
    const [few = 0, many = 0] = ends.map(of);
    return [what, few.toFixed(digits), many.toFixed(digits), (many / few).toFixed(2)];
  }),
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
