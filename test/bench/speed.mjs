// npm run bench [-- --only hit,pass] [--rounds 5] [--seconds 2] [--short] [--against CHECKOUT] [--json FILE] [--write]
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { withTools } from '../../scripts/tools.mjs';
import { contestantsOf } from './speed/list.mjs';
import { freePort, openRig } from './speed/rig.mjs';
import { measure } from './speed/rounds.mjs';
import { tableOf } from './speed/table.mjs';
import { startUpstream } from './speed/upstream.mjs';
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
  },
});
const rounds = Number(values.rounds ?? (values.short ? 2 : 5));
const seconds = Number(values.seconds ?? (values.short ? 1 : 2));
const [proxy = 0, load = 1] = values.cores.split(',').map(Number);
const kinds = values.only?.split(',') ?? WORK.map(({ kind }) => kind);
const env = withTools(['redis-server', 'nginx', 'wrk', 'h2load', 'haproxy', 'varnishd']);
const rig = openRig({ env, cores: { proxy, load } });
const say = (/** @type {string} */ line) => console.log(line);

/** @type {Record<string, import('./speed/rounds.mjs').Measured[]>} */
const results = {};
try {
  const upstream = await startUpstream(rig);
  const redis = await freePort();
  rig.start('load', 'redis-server', [
    '--port',
    String(redis),
    '--bind',
    '127.0.0.1',
    '--dir',
    rig.scratch,
    '--save',
    '',
  ]);
  const all = contestantsOf({ redis, against: values.against ?? null, wanted: values.contestants?.split(',') ?? null });
  for (const work of WORK.filter(({ kind }) => kinds.includes(kind) && kind !== 'stream')) {
    const entered = all.filter((each) => each.kinds.includes(work.kind));
    results[work.kind] = await measure({ rig, upstream }, work, entered, { rounds, seconds, say });
    say(`\n${work.title}\n\n${tableOf(results[work.kind] ?? [])}\n`);
  }
} finally {
  rig.close();
}
if (values.json !== undefined) writeFileSync(join(process.cwd(), values.json), JSON.stringify(results, null, 2));
