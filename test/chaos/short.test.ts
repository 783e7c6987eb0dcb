import { afterAll, expect, test } from 'vitest';
import { experiment } from './experiment.mjs';
import { faults } from './faults/all.mjs';
import { cleanUp } from './rig.mjs';

afterAll(cleanUp);

const short = faults.flatMap((fault) => (fault.short ?? []).map((state) => ({ fault, state, name: fault.name })));

// Some ten seconds each: three processes start, learn of each other, lose something for four seconds and are looked at again.
test.each(short)(
  'under load, $name ($state): the ceiling holds, no write arrives twice, no answer is lost or another’s, and nothing is left behind',
  async ({ fault, state }) => {
    const row = await experiment(fault, state, { short: true });
    process.stdout.write(`${JSON.stringify(row)}\n`);
    expect(row.violations).toEqual([]);
  },
  90_000,
);
