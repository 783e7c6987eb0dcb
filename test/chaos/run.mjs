// The chaos suite by hand: three gateways under load, one fault, and what became of it. Loopback only; ends by itself; kills only
// what it started.
//
//     npm run test:chaos                                       everything, some fifteen minutes
//     npm run test:chaos -- --fault redis-hung --state alone   one row; both may be given several times
//     npm run test:chaos -- --short                            what npm run test:full runs
//     npm run test:chaos -- --list
//     npm run test:chaos -- --write                            puts its rows into docs/reliability.md
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { experiment } from './experiment.mjs';
import { faults, short } from './faults/all.mjs';
import { cleanUp, cleanUpAtTheEnd } from './rig.mjs';
import { documentWith } from './table.mjs';

const DOCUMENT = fileURLToPath(new URL('../../docs/reliability.md', import.meta.url));

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    fault: { type: 'string', multiple: true },
    state: { type: 'string', multiple: true },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '2' },
  },
});
const say = (/** @type {string} */ line) => void process.stdout.write(`${line}\n`);
for (const name of values.fault ?? [])
  if (!faults.some((each) => each.name === name)) throw new Error(`no fault ${name}; --list shows them`);

const all = faults.flatMap((fault) => fault.states.map((state) => ({ fault, state })));
// Named faults run even if they are not among the short ones.
const wanted = (values.short && values.fault === undefined ? short : all)
  .filter(({ fault: { name } }) => values.fault?.includes(name) ?? true)
  .filter(({ state }) => values.state?.includes(state) ?? true);

const order = all.map(({ fault, state }) => `${fault.name} ${state}`);

async function run() {
  /** @type {import('./types.ts').Row[]} */
  const rows = [];
  const left = [...wanted];
  // An experiment that cannot be carried out does not stop the others. A run waits most of its time, so two side by side take little
  // longer than one.
  const work = async () => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) {
      const { fault, state } = one;
      const row = await experiment(fault, state, { short: values.short }).catch((error) => {
        say(`${fault.name} (${state}): ${error.stack}`);
      });
      if (!row) continue;
      const { about: _, ...rest } = row;
      say(JSON.stringify(rest));
      rows.push(row);
      if (values.write) writeFileSync(DOCUMENT, documentWith(readFileSync(DOCUMENT, 'utf8'), rows, order));
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  const held = rows.filter(({ violations }) => violations.length === 0).length;
  say(`${held} held, ${wanted.length - held} did not`);
  process.exitCode = held < wanted.length || held === 0 ? 1 : 0;
}

if (values.list) for (const { fault, state } of wanted) say(`${fault.name} (${state}): ${fault.about}`);
else await run();
cleanUp();
// At once: Node 20 has been seen to go round for ever in the clean-up of its handles.
process.exit();
