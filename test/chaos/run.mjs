// The chaos suite by hand: three gateways under load, one fault, and what became of it. Loopback only; ends by itself; kills only
// what it started.
//
//     npm run test:chaos                                       everything, some fifteen minutes
//     npm run test:chaos -- --fault redis-hung --state alone   one row
//     npm run test:chaos -- --list
import { parseArgs } from 'node:util';
import { experiment } from './experiment.mjs';
import { faults } from './faults/all.mjs';
import { cleanUp } from './rig.mjs';

const { values } = parseArgs({
  options: {
    fault: { type: 'string', multiple: true },
    state: { type: 'string', multiple: true },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
const say = (/** @type {string} */ line) => void process.stdout.write(`${line}\n`);
for (const name of values.fault ?? [])
  if (!faults.some((each) => each.name === name)) throw new Error(`no fault ${name}; --list shows them`);

const wanted = faults
  .filter(({ name }) => values.fault?.includes(name) ?? true)
  .flatMap((fault) => {
    const states = values.short && values.fault === undefined ? (fault.short ?? []) : fault.states;
    return states.filter((state) => values.state?.includes(state) ?? true).map((state) => ({ fault, state }));
  });
if (values.list) for (const { fault, state } of wanted) say(`${fault.name} (${state}): ${fault.about}`);
else {
  let failed = 0;
  for (const { fault, state } of wanted) {
    const row = await experiment(fault, state, { short: values.short });
    say(JSON.stringify(row));
    if (row.violations.length > 0) failed += 1;
  }
  say(`${wanted.length - failed} held, ${failed} did not`);
  process.exitCode = failed > 0 || wanted.length === 0 ? 1 : 0;
}
cleanUp();
