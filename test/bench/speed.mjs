// npm run bench [-- OPTIONS]: the gateway beside raw Node, bare Hono, fastify and nginx, in turns, on one core each.
// A whole run writes its tables and its chart into docs/; any other prints them.
//
//   --only hit,pass        kinds of work: hit pass post stream
//   --contestants raw,…    who takes part beside the gateway
//   --rounds 5             turns of each contestant
//   --seconds 2            of a round
//   --short                two short rounds, to see that it works
//   --against CHECKOUT     another build of the gateway (its dist/ made), twice: what lies between the two is noise
//   --cores 0,1            one for the proxy, one for load and upstream
//   --json FILE            all that was measured
//   --from FILE            measures nothing, takes that
//   --write                writes docs/ whatever was run
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { withTools } from '../../scripts/tools.mjs';
import { contestantsOf } from './speed/list.mjs';
import { describeMachine } from './speed/machine.mjs';
import { reportOf, writePage } from './speed/page.mjs';
import { openRig } from './speed/rig.mjs';
import { measure } from './speed/rounds.mjs';
import { measureStreams } from './speed/stream.mjs';
import { tableOf } from './speed/table.mjs';
import { startRedis, startUpstream } from './speed/upstream.mjs';
import { WORK } from './speed/work.mjs';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    contestants: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    short: { type: 'boolean', default: false },
    against: { type: 'string' },
    cores: { type: 'string', default: '0,1' },
    json: { type: 'string' },
    from: { type: 'string' },
    write: { type: 'boolean', default: false },
  },
});
const env = withTools(['redis-server', 'nginx', 'wrk', 'h2load']);
const plan = {
  rounds: Number(values.rounds ?? (values.short ? 2 : 5)),
  seconds: Number(values.seconds ?? (values.short ? 1 : 2)),
  kinds: values.only?.split(',') ?? WORK.map(({ kind }) => kind),
  wanted: values.contestants?.split(',') ?? null,
  against: values.against ?? null,
};
const unknown = plan.kinds.filter((kind) => !WORK.some((work) => work.kind === kind));
if (unknown.length > 0) throw new Error(`--only: no such work: ${unknown.join(', ')}`);
const isWhole =
  ['only', 'contestants', 'rounds', 'seconds', 'against', 'from'].every((name) => !(name in values)) && !values.short;
const say = (/** @type {string} */ line) => console.log(line);

const results = values.from === undefined ? await run() : JSON.parse(readFileSync(values.from, 'utf8'));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 1)}\n`);
if (plan.against === null) say(reportOf(results));
if (values.write || isWhole) say(`written: ${writePage(results).join(', ')}`);

/** @returns {Promise<import('./speed/page.mjs').Results>} */
async function run() {
  const [proxy = 0, load = 1] = values.cores.split(',').map(Number);
  const rig = openRig({ env, cores: { proxy, load } });
  try {
    const bench = { rig, upstream: await startUpstream(rig), redis: await startRedis(rig) };
    const all = contestantsOf({ ...plan, redis: bench.redis });
    const { rounds, seconds } = plan;
    const machine = describeMachine(env);
    const about = all.map(({ id, name, does }) => ({ id, name, does }));
    /** @type {import('./speed/page.mjs').Results} */
    const measured = { machine, rounds, seconds, contestants: about, kinds: {}, streams: [] };
    for (const work of WORK.filter(({ kind }) => plan.kinds.includes(kind))) {
      const entered = all.filter((each) => each.kinds.includes(work.kind));
      if (work.large) {
        measured.streams = await measureStreams(bench, work, entered, { rounds: Math.min(3, rounds), say });
        continue;
      }
      const table = await measure(bench, work, entered, {
        rounds,
        seconds: work.closely ? seconds : Math.max(1, Math.round(seconds / 2)),
        latencyRounds: work.closely && plan.against === null ? Math.min(3, rounds) : 0,
        latencySeconds: seconds + 1,
        say,
      });
      measured.kinds[work.kind] = table;
      say(`\n${work.title}\n\n${tableOf(table)}\n`);
    }
    return measured;
  } finally {
    rig.close();
  }
}
