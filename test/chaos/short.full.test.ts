import { afterAll, expect, test } from 'vitest';
import { experiment } from './experiment.mjs';
import { short } from './faults/all.mjs';
import { cleanUp } from './rig.mjs';

afterAll(cleanUp);

test.each(short.map((each) => ({ ...each, name: each.fault.name })))(
  'under load, $name ($state): the ceiling holds, no write arrives twice, no response is lost or another’s, no resource leaks',
  async ({ fault, state }) => {
    const row = await experiment(fault, state, { short: true });
    process.stdout.write(`${JSON.stringify(row)}\n`);
    expect(row.violations).toEqual([]);
  },
  240_000,
);
