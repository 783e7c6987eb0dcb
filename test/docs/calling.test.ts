import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { type ProblemCode, problems } from '../../src/problem.ts';
import { BILLING_KEY, run } from '../support/gateway.ts';
import { folder } from '../support/process.ts';

const page = await readFile(new URL('../../docs/calling.md', import.meta.url), 'utf8');
const codes = Object.keys(problems) as ProblemCode[];

test.each(codes)('%s has an entry with its status, an anchor, and what to do', (code) => {
  const row = new RegExp(`^\\| <a id="${code}"></a>\`${code}\` \\| ${problems[code].status} \\| \\S.{10,} \\|$`, 'm');
  expect(page).toMatch(row);
});

/** Blocks of `js` alone: those with a further word need a package. */
const examples = [...page.matchAll(/^```js\n(.*?)^```/gms)].map(([, code = '']) => code);

test('the page has examples that run', () => expect(examples.length).toBe(2));

test.each(examples)('example %# runs against a gateway', async (code) => {
  await using files = await folder({});
  await using gateway = await run();
  await writeFile(`${files.path}/example.mjs`, code);
  const env = { PATCHGATE_URL: `${gateway.url}/api/v1`, PATCHGATE_KEY: BILLING_KEY };
  const { stdout } = await promisify(execFile)(process.execPath, [`${files.path}/example.mjs`], { env });
  expect(stdout).toMatch(/^\d+ \d+\n$/);
});
