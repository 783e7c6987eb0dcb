import { defineConfig } from 'vitest/config';

const ALL = ['src/**/*.test.ts', 'test/**/*.test.ts'];
const LONG = ['src/**/*.full.test.ts', 'test/**/*.full.test.ts'];
/** Files with tests that repeat themselves: a little in the quick suite, and once more in the full one, where they do it often. */
const REPEATING = ['test/trust/fuzz.test.ts', 'test/redis/quota-store.test.ts', 'test/gateway/shared-cache.test.ts'];

export default defineConfig({
  test: {
    globalSetup: 'test/support/global-setup.ts',
    // Real sockets and child processes on a small machine: a hung test must fail, a slow one must not.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: 'forks',
    maxWorkers: 2,
    // Nothing happens at import time, so files can share a process: each would load the whole program again.
    isolate: false,
    projects: [
      {
        extends: true,
        test: {
          name: 'quick',
          include: ALL,
          exclude: LONG,
          env: { FUZZ_RUNS: '150', FAULT_RUNS: '2', WRITE_RUNS: '25' },
        },
      },
      {
        extends: true,
        test: {
          name: 'full',
          include: [...LONG, ...REPEATING],
          env: { FUZZ_RUNS: '1000', FAULT_RUNS: '12', WRITE_RUNS: '250' },
        },
      },
    ],
  },
});
