import { defineConfig } from 'vitest/config';

const ALL = ['src/**/*.test.ts', 'test/**/*.test.ts'];
const LONG = ['src/**/*.full.test.ts', 'test/**/*.full.test.ts'];
/** Random inputs: a few in the quick suite, many in the full one. */
const RANDOM = ['test/trust/fuzz.test.ts', 'test/redis/quota-store.test.ts'];

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
        test: { name: 'quick', include: ALL, exclude: LONG, env: { FUZZ_RUNS: '150', FAULT_RUNS: '3' } },
      },
      {
        extends: true,
        test: { name: 'full', include: [...LONG, ...RANDOM], env: { FUZZ_RUNS: '1000', FAULT_RUNS: '12' } },
      },
    ],
  },
});
