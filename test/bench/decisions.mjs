// npm run bench:decisions [-- --write]: the admission script beside an EVALSHA that does nothing, at 10 and 10,000 tenants.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { withTools } from '../../scripts/tools.mjs';
import { replaced } from './sections.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const { scripts } = await import(inRoot('dist/adapters/redis/scripts.js'));
const port = await new Promise((/** @type {(port: number) => void} */ resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const address = server.address();
    server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
  });
});
const folder = mkdtempSync(join(tmpdir(), 'patchgate-bench-'));
const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''], {
  env: withTools(['redis-server', 'openssl']),
  stdio: 'ignore',
});
const redis = new Redis({ port, retryStrategy: () => 50, maxRetriesPerRequest: null });
redis.on('error', () => {});

const KEYS = ['bench:{main}:window', 'bench:{main}:line', 'bench:{main}:due'];
const CEILING = 10_000_000;
const empty = String(await redis.script('LOAD', 'return 1'));
const admit = String(await redis.script('LOAD', scripts.admit.text));
// A member that is heard, with room for all that comes.
await redis.eval(
  scripts.enter.text,
  3,
  ...KEYS,
  '',
  'r',
  '',
  -1,
  0,
  1,
  '[]',
  0,
  0,
  '{}',
  -1,
  '[]',
  0,
  0,
  'local',
  CEILING,
  CEILING,
  400_000,
  120_000,
  0,
  0,
  'ticket',
  'p',
  0,
  '',
);
await redis.eval(
  scripts.beat.text,
  3,
  ...KEYS,
  '',
  'r',
  'ticket',
  -1,
  0,
  9e12,
  0,
  'local',
  CEILING,
  CEILING,
  400_000,
  120_000,
  '',
  0,
  0,
);
await redis.hset(KEYS[0] ?? '', 'bs', 0);

/** Decisions a second, and the server's own µs for one. @param {string} sha @param {number} tenants @param {number} askers in one command */
async function measure(sha, tenants, askers) {
  let sent = 0;
  const end = performance.now() + 1_500;
  await redis.config('RESETSTAT');
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      while (performance.now() < end) {
        const asks = Array.from({ length: askers }, () => [
          `tenant${++sent % tenants}`,
          1e7,
          1e6,
          1,
          0,
          CEILING,
          CEILING,
          0,
        ]);
        const reply = await redis.evalsha(
          sha,
          3,
          ...KEYS,
          '',
          'r',
          'ticket',
          -1,
          // No Cluster.
          0,
          JSON.stringify(asks),
        );
        if (sha === admit && JSON.parse(String(reply)).some((/** @type {unknown[]} */ each) => each[0] !== 1))
          throw new Error(`not admitted: ${reply}`);
      }
    }),
  );
  const took = /cmdstat_evalsha:.*usec_per_call=([\d.]+)/.exec(await redis.info('commandstats'));
  return { rate: sent / 1.5, usec: Number(took?.[1]) / askers };
}

const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;
const rows = [
  '| tenants | ask together | decisions a second | empty EVALSHA a second, in turns | ratio | µs in the server: decision / empty |',
  '|---|---|---|---|---|---|',
];
try {
  for (const tenants of [10, 10_000]) {
    for (const askers of [1, 16]) {
      /** @type {Record<'decision' | 'empty', { rate: number, usec: number }[]>} */
      const turns = { decision: [], empty: [] };
      for (let turn = 0; turn < 5; turn++) {
        turns.empty.push(await measure(empty, tenants, 1));
        turns.decision.push(await measure(admit, tenants, askers));
      }
      const of = (/** @type {keyof typeof turns} */ which, /** @type {'rate' | 'usec'} */ what) =>
        median(turns[which].map((each) => each[what]));
      const [rate, emptyRate] = [of('decision', 'rate'), of('empty', 'rate')];
      rows.push(
        `| ${tenants} | ${askers} | ${Math.round(rate)} | ${Math.round(emptyRate)} | ${(rate / emptyRate).toFixed(2)} | ${of('decision', 'usec').toFixed(1)} / ${of('empty', 'usec').toFixed(1)} |`,
      );
    }
  }
} finally {
  redis.disconnect();
  server.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
console.log(rows.join('\n'));
if (process.argv.includes('--write')) {
  const page = inRoot('docs/benchmarks.md');
  const about = `64 in flight on one connection, medians of five turns. ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Redis and client on the same machine, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}.`;
  const content = [about, '', ...rows].join('\n');
  writeFileSync(page, replaced(readFileSync(page, 'utf8'), 'decisions', content));
}
