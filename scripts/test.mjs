// Runs one of the two suites, `quick` or `full`; further arguments go to the runner. The last lines name each failure and have
// the counts of the runner itself. A run that executed nothing fails.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const [suite = 'quick', ...rest] = process.argv.slice(2);
const scratch = mkdtempSync(join(tmpdir(), 'patchgate-test-'));
const report = join(scratch, 'report.json');
const MAX_MESSAGE = 500;

/** In a process group of its own, so that a process which a test left running ends with the run. @returns {Promise<boolean>} */
async function passes() {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const args = ['run', '--project', suite, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const runner = spawn(process.execPath, [vitest, ...args, ...rest], { cwd: root, stdio: 'inherit', detached: true });
  const end = (/** @type {NodeJS.Signals} */ signal) => {
    try {
      if (runner.pid !== undefined) process.kill(-runner.pid, signal);
    } catch {
      // Nothing of it is left.
    }
  };
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, end);
  const [code] = await once(runner, 'exit');
  end('SIGKILL');
  return code === 0;
}

/**
 * @typedef {{ fullName: string, status: string, failureMessages: string[] }} TestCase
 * @typedef {{ name: string, status: string, message: string, assertionResults: TestCase[] }} TestFile
 */

/** Prints a line for each failure, because a long run is read from its end. @param {TestFile} file */
function printFailures({ name, status, message, assertionResults }) {
  const path = relative(root, name);
  const failed = assertionResults.filter((test) => test.status === 'failed');
  if (failed.length === 0 && status === 'failed') console.log(`failed: ${path}: ${firstLines(message)}`);
  for (const test of failed)
    console.log(`failed: ${path}: ${test.fullName}: ${firstLines(test.failureMessages.join(' '))}`);
}

/** The message with the lines of the stack that lie in the project, on one line. @param {string} message */
function firstLines(message) {
  const lines = message
    .split('\n')
    .filter((line) => !/^\s+at /.test(line) || !/node_modules|node:internal|<anonymous>/.test(line));
  return lines
    .map((line) => line.trim())
    .join(' ')
    .slice(0, MAX_MESSAGE);
}

try {
  const passed = await passes();
  /** @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, success: boolean, testResults: TestFile[] }} */
  const counts = existsSync(report)
    ? JSON.parse(readFileSync(report, 'utf8'))
    : { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, success: false, testResults: [] };
  console.log();
  for (const file of counts.testResults) printFailures(file);
  const skipped = counts.numPendingTests + counts.numTodoTests;
  console.log(
    `${counts.numPassedTests} passed, ${counts.numFailedTests} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
  );
  process.exitCode = passed && counts.success && counts.numPassedTests > 0 ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
