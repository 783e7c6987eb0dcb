// npm run bench:profile -- hit|pass|… [--seconds 5] [--checkout FOLDER] [--redis] [--quiet] [--out FOLDER] [--cores 0,1]
// The gateway under that load with V8's sampling profiler: profile-KIND.svg (a flame picture), .txt (time by owner and by
// function) and .cpuprofile (for the developer tools of a browser).
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { withTools } from '../../scripts/tools.mjs';
import { callTree, selfTimes } from './profile/analyse.mjs';
import { flame } from './profile/flame.mjs';
import { profileText } from './profile/report.mjs';
import { gateway, HERE } from './speed/contestants/gateway.mjs';
import { readTree } from './speed/proc.mjs';
import { startRedis } from './speed/redis.mjs';
import { openRig } from './speed/rig.mjs';
import { bringUp, warmUp } from './speed/rounds.mjs';
import { startUpstream } from './speed/upstream.mjs';
import { questionOf, WORK } from './speed/work.mjs';
import { wrk } from './speed/wrk.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '5' },
    checkout: { type: 'string', default: HERE },
    redis: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
    out: { type: 'string', default: 'profiles' },
    cores: { type: 'string', default: '0,1' },
  },
});
const work = WORK.find(({ kind, large }) => kind === positionals[0] && !large);
if (work === undefined) {
  const known = WORK.filter(({ large }) => !large).map(({ kind }) => kind);
  throw new Error(`npm run bench:profile -- ${known.join('|')}`);
}
const [proxy = 0, load = 1] = values.cores.split(',').map(Number);
const env = withTools(['redis-server', 'nginx', 'wrk']);
const rig = openRig({ env, cores: { proxy, load } });
/** Microseconds of the clock that the profile counts in. */
const now = () => Number(process.hrtime.bigint() / 1_000n);
/** Samples every so many µs: often enough for seconds of load, and still a small part of the time. */
const INTERVAL = '250';

try {
  const upstream = await startUpstream(rig);
  const redis = values.redis ? await startRedis(rig) : null;
  const bench = { rig, upstream, redis };
  const profiles = join(rig.scratch, 'profiles');
  const contestant = gateway({
    id: 'gateway',
    name: 'patchgate',
    does: '',
    checkout: resolve(values.checkout),
    nodeArgs: ['--cpu-prof', `--cpu-prof-dir=${profiles}`, `--cpu-prof-interval=${INTERVAL}`],
    ...(redis !== null && { redis: redis.port }),
    ...(values.quiet && { logLevel: 'warn' }),
  });
  const [ready] = await bringUp(bench, work, [contestant]);
  if (ready === undefined) throw new Error('nobody is there');
  await warmUp(bench, work, ready);
  const cpuBefore = readTree(ready.at.pid).cpuMs;
  const from = now();
  const { requests } = await wrk(rig, {
    port: ready.at.port,
    question: questionOf(work, ready.etag),
    seconds: Number(values.seconds),
  });
  const to = now();
  const cpuMs = readTree(ready.at.pid).cpuMs - cpuBefore;
  // Ctrl-C: drains without the delay, and an orderly end is when Node writes the profile.
  await ready.at.stop('SIGINT');
  redis?.close();
  const [file = ''] = readdirSync(profiles);
  const text = readFileSync(join(profiles, file), 'utf8');
  const profile = JSON.parse(text);
  const tree = callTree(profile, selfTimes(profile, { from, to }));
  const told = profileText(tree, { requests, cpuMs });
  console.log(told);
  const base = join(resolve(values.out), `profile-${work.kind}`);
  mkdirSync(resolve(values.out), { recursive: true });
  writeFileSync(`${base}.cpuprofile`, text);
  writeFileSync(`${base}.txt`, told);
  const state = values.redis ? 'state in Redis' : 'embedded state';
  const about = `${state}; Node ${process.version}; ${told.split('\n')[0]}; width is time, callers above`;
  writeFileSync(`${base}.svg`, flame(tree, { title: `${work.title}: where the time goes`, about }));
  console.log(`${base}.svg`);
} finally {
  rig.close();
}
