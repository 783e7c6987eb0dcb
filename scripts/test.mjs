// Runs the whole suite and closes with counts that come from the runner itself: a run that executed nothing fails.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withTools } from './tools.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'patchgate-test-'));
const report = join(scratch, 'report.json');

/** @returns {number} exit code */
function test() {
  const env = withTools([
    'redis-server',
    'redis-cli',
    'openssl',
    'prometheus',
    'promtool',
    'chromium',
    'helm',
    'kubectl',
    'haproxy',
    'docker-compose',
  ]);
  // Tests of the process run what the image runs.
  const build = spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root, stdio: 'inherit' });
  if (build.status !== 0) return build.status ?? 1;

  const run = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...process.argv.slice(2),
    ],
    { cwd: root, stdio: 'inherit', env },
  );
  /** @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, success: boolean }} */
  const counts = JSON.parse(readFileSync(report, 'utf8'));
  const skipped = counts.numPendingTests + counts.numTodoTests;
  const failed = counts.numFailedTests;
  console.log(`\n${counts.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return run.status !== 0 || !counts.success || counts.numPassedTests === 0 ? 1 : 0;
}

try {
  process.exitCode = test();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
