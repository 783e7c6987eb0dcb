// npm run bench:plan [-- --write]
// Time and memory of `patchgate plan` for logs of a day.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inRoot, machine, table, writeSection } from './page.mjs';

const MAIN = inRoot('dist/main.js');
const MIDNIGHT = Date.parse('2026-11-02T00:00:00Z');
const DAY_MS = 86_400_000;
const TENANTS = ['billing', 'reporting', 'sync'];
const USAGE = 'data:text/javascript,process.on("exit",()=>console.error(JSON.stringify(process.resourceUsage())))';

const CONFIG = {
  accounts: { main: { credentials: [{ id: 'p', apiKey: 'fake-key' }] } },
  cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '30s', staleWhileRevalidate: '5m' }] },
  tenants: Object.fromEntries(TENANTS.map((id) => [id, { quota: { rate: 90 } }])),
};

/**
 * @param {number} index
 * @param {number} lines
 * @param {number} hits share of the requests that were served from the cache
 */
function line(index, lines, hits) {
  const turn = (index * 7_919) % 1_000;
  const isHit = turn < hits * 1_000;
  const isWrite = !isHit && turn % 5 === 0;
  const upstreamMs = isHit ? null : 100 + (index % 400);
  const durationMs = upstreamMs ?? 0.5;
  const path = isHit ? `/api/v1/flows/${index % 8}` : `/api/v1/scripts/${index % 2_000}`;
  return JSON.stringify({
    ...{ level: 'info', time: new Date(MIDNIGHT + (index / lines) * DAY_MS + durationMs).toISOString() },
    ...{ service: 'patchgate', version: '0.1.0', requestId: `0b0e7f3e-1f6c-4c55-9b6c-${index}` },
    ...{ method: isWrite ? 'POST' : 'GET', route: '/api/v1/scripts', path, status: 200 },
    ...{ tenant: TENANTS[index % 3], key: '2026-11', cache: isHit ? 'hit' : isWrite ? 'none' : 'miss', waitMs: 0 },
    ...{ upstreamMs, durationMs, bytes: 2_000, client: '10.0.0.1', account: 'main', msg: 'request' },
  });
}

/** @param {string} path @param {number} lines @param {number} hits */
async function writeLog(path, lines, hits) {
  const file = createWriteStream(path);
  for (let i = 0; i < lines; i++) if (!file.write(`${line(i, lines, hits)}\n`)) await once(file, 'drain');
  file.end();
  await once(file, 'close');
}

/** @param {string} directory @param {number} lines @param {number} hits */
async function measure(directory, lines, hits) {
  const log = join(directory, 'day.log');
  await writeLog(log, lines, hits);
  const startedAt = performance.now();
  const args = ['--import', USAGE, MAIN, 'plan', '--log', log, '--config', join(directory, 'new.yaml'), '--json'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(stderr);
  const usage = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = (usage.userCPUTime + usage.systemCPUTime) / 1e6;
  const mebibytes = [(await stat(log)).size / 2 ** 20, usage.maxRSS / 1024];
  const measured = [lines.toLocaleString('en'), `${hits * 100} %`, mebibytes[0]?.toFixed(0) ?? ''];
  const row = [...measured, seconds.toFixed(1), cpuSeconds.toFixed(1), mebibytes[1]?.toFixed(0) ?? ''];
  console.log(row.join(' | '));
  return row;
}

const directory = await mkdtemp(join(tmpdir(), 'patchgate-plan-'));
try {
  await writeFile(join(directory, 'new.yaml'), JSON.stringify(CONFIG));
  const load = loadavg()[0]?.toFixed(1);
  const rows = [
    ['lines', 'hits', 'log, MiB', 'time, s', 'CPU, s', 'most memory, MiB'],
    await measure(directory, 30_000, 0.6),
    await measure(directory, 300_000, 0.6),
    await measure(directory, 300_000, 0),
  ];
  const where = `${machine()}. Load at the start: ${load}.`;
  if (process.argv.includes('--write')) writeSection('docs/benchmarks.md', 'plan', `${where}\n\n${table(rows)}`);
} finally {
  await rm(directory, { recursive: true, force: true });
}
