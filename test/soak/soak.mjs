// npm run soak [-- --minutes 30 --rate 1000 --out FILE --write | --from FILE --write]
// Two gateways on a Redis in front of the simulator, a constant rate of mixed requests, faults along the way, and a verdict
// computed at the end: exit code 1 if anything does not hold. --write puts it into docs/soak.md. Loopback only; ends by
// itself; kills only what it started.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { inRoot, machine, writeSection } from '../bench/page.mjs';
import { pageOf, pictureOf } from './page.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    rate: { type: 'string', default: '1000' },
    out: { type: 'string' },
    from: { type: 'string' },
    write: { type: 'boolean', default: false },
    // A ceiling below the configured one shows that a run can fail.
    'judge-by-ceiling': { type: 'string' },
  },
});
const tell = (/** @type {string} */ line) => void process.stdout.write(`${line}\n`);

/** @returns {Promise<import('./page.mjs').Outcome>} */
async function soaked() {
  const [seconds, rate] = [Number(values.minutes) * 60, Number(values.rate)];
  if (!(seconds > 0 && rate > 0)) throw new Error('--minutes and --rate must be numbers above 0');
  const { soak } = await import('./course.mjs');
  (await import('../chaos/rig.mjs')).cleanUpAtTheEnd();
  const judged = values['judge-by-ceiling'];
  return soak({
    seconds,
    rate,
    machine: machine(),
    tell,
    ...(judged !== undefined && { judgeByCeiling: Number(judged) }),
  });
}

const outcome =
  values.from === undefined
    ? await soaked()
    : /** @type {import('./page.mjs').Outcome} */ (JSON.parse(readFileSync(values.from, 'utf8')));
if (values.out !== undefined) writeFileSync(values.out, JSON.stringify(outcome));
if (values.write) {
  writeSection('docs/soak.md', 'soak', pageOf(outcome));
  writeFileSync(inRoot('docs/soak.svg'), pictureOf(outcome));
}
for (const { claim, holds, says } of outcome.checks) tell(`${holds ? 'holds ' : 'FAILED'} ${claim}: ${says}`);
tell(outcome.holds ? 'held' : 'FAILED');
process.exit(outcome.holds ? 0 : 1);
