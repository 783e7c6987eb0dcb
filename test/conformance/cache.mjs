// npm run conformance:cache [-- --compare --failures --suite FOLDER]
// The public suite for HTTP caches (cache-tests.fyi) against the gateway without cache rules, as a plain shared cache.
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { plainFetch } from './client.mjs';
import { disagreements, readDeviations } from './deviations.mjs';
import { KEY, startGateway } from './gateway.mjs';
import { startOrigin } from './origin.mjs';
import { unpackSuite } from './package.mjs';
import { countByKind, inOneLine, judgeBy, tableByCache, tableBySuite } from './score.mjs';
import { loadTests, runTests } from './suite.mjs';

const { values } = parseArgs({
  options: {
    /** How the caches whose results the suite publishes score, counted the same way. */
    compare: { type: 'boolean', default: false },
    /** Every test that did not pass, with what it says of it. */
    failures: { type: 'boolean', default: false },
    /** A checkout of the suite's repository in place of the package: it is newer, and counts other tests. */
    suite: { type: 'string' },
  },
});
const PUBLISHED = ['nginx', 'varnish', 'squid', 'apache', 'trafficserver', 'fastly', 'caddy', 'haproxy'];
/** A run takes about half a minute; one that hangs must not hang whatever started it. */
const LONGEST_RUN_MS = 240_000;

const print = (/** @type {string[]} */ lines) => process.stdout.write(`${lines.join('\n')}\n`);

setTimeout(() => {
  process.stderr.write(`not finished after ${LONGEST_RUN_MS / 1000} s\n`);
  process.exit(1);
}, LONGEST_RUN_MS).unref();

const suite = values.suite === undefined ? unpackSuite() : { folder: resolve(values.suite), remove: () => {} };
process.once('exit', suite.remove);
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const sets = await loadTests(suite.folder);
const list = 'deviations.json';
const judge = await judgeBy(suite.folder, sets);
const origin = await startOrigin(suite.folder);
const gateway = await startGateway(origin.url);
const fetch = plainFetch(KEY);
/** @type {import('./suite.mjs').Results} */
let results;
try {
  // Embedded state sends one request first and waits for the response.
  await fetch(`${gateway.url}/`);
  results = await runTests(suite.folder, sets, fetch, gateway.url);
} finally {
  await gateway.close();
  await origin.close();
}

const verdicts = judge(results);
print(tableBySuite(sets, verdicts));
if (values.failures) {
  const failed = sets.flatMap(({ tests }) => tests).filter(({ id }) => verdicts.get(id) !== 'passed');
  print([
    '',
    ...failed.map(({ id, kind = 'required' }) => {
      const result = results[id];
      return `${kind}  ${id}: ${verdicts.get(id)}${Array.isArray(result) ? `; ${result.join(': ')}` : ''}`;
    }),
  ]);
}
if (values.compare) {
  const published = PUBLISHED.map((name) => /** @type {const} */ ([name, join(suite.folder, `results/${name}.json`)]))
    .filter(([, file]) => existsSync(file))
    .map(([name, file]) => {
      const theirs = JSON.parse(readFileSync(file, 'utf8'));
      return /** @type {[string, ReturnType<typeof judge>]} */ ([name, judge(theirs)]);
    });
  print(['', ...tableByCache(sets, [['patchgate', verdicts], ...published])]);
}
// The list is of the package's tests; another checkout has others.
const surprises = values.suite === undefined ? disagreements(readDeviations(list), verdicts, results) : [];
if (surprises.length > 0) {
  print(['', `Not as listed in test/conformance/${list}:`, ...surprises]);
  process.exitCode = 1;
}
print(['', inOneLine(countByKind(sets, verdicts))]);
