// Checks which files read which clock. A wall clock can be set: a guarantee that is measured with it would break.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const src = fileURLToPath(new URL('../src', import.meta.url));

const DATE = 'a date that leaves the process, or comes from outside';
/**
 * Files that may read the wall clock, with the reason. All others measure with `Clock.monotonic()`.
 * @type {Record<string, string>}
 */
const wall = {
  'auth/authenticate.ts': 'when a key expires is a date of the configuration',
  'auth/key-set.ts': DATE,
  'auth/key-use.ts': DATE,
  'auth/identity-store.ts': 'when a token expires is a date of its issuer',
  'cache/fill.ts': 'RFC 9111 computes ages with dates of upstream',
  'cache/cache-control.ts': 'the century of a date of two digits',
  'cli/key.ts': DATE,
  'config/load.ts': 'keys and certificates that have expired',
  'gateway/issuers.ts': DATE,
  'server/connections.ts': 'when a certificate expires is a date',
  'server/request-context.ts': 'the time in the access line',
  'gateway/history.ts': DATE,
  'gateway/status.ts': DATE,
  'quota/budgets.ts': 'a budget begins at a midnight of the calendar',
  'quota/headers.ts': 'X-RateLimit-Reset is a date',
  'plan/replay.ts': 'the dates of the requests of a log',
  'reload/reporter.ts': DATE,
  'telemetry/log.ts': 'the time of a line',
  'upstream/credentials/login.ts': 'the metric of the expiry of a token is a date',
  'upstream/proxy.ts': 'a Retry-After that is a date',
};
/** The stand-in for Patchworks works with dates; no guarantee depends on it. */
const OUTSIDE = ['simulator/'];
/** The clock itself. */
const own = new Set(['clock.ts']);

const WALL = /\bDate\.now\b|\bnew Date\(\)|\bclock\.now\(\)/;
const RAW = /\bperformance\.now\b|\bprocess\.hrtime\b|\bperformance\.timeOrigin\b/;

/** @type {string[]} */
const problems = [];
const unused = new Set(Object.keys(wall));
for (const name of readdirSync(src, { recursive: true, encoding: 'utf8' })) {
  if (!name.endsWith('.ts') || name.endsWith('.test.ts') || OUTSIDE.some((room) => name.startsWith(room))) continue;
  const path = relative(src, join(src, name));
  for (const [index, line] of readFileSync(join(src, name), 'utf8').split('\n').entries()) {
    if (own.has(path)) continue;
    if (WALL.test(line)) {
      unused.delete(path);
      if (!(path in wall))
        problems.push(`${path}:${index + 1}: reads the wall clock; measure with Clock.monotonic(), or say why here`);
    }
    if (RAW.test(line)) problems.push(`${path}:${index + 1}: reads the clock of the process; take a Clock as argument`);
  }
}
for (const path of unused) problems.push(`${path}: does not read the wall clock any more; take it off the list`);

for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error(`${problems.length} problems with clocks (scripts/check-clocks.mjs)`);
  process.exitCode = 1;
} else console.log(`clocks: ${Object.keys(wall).length} files may ask what time it is, no other does`);
