import { defineConfig } from 'vitest/config';

const ALL = ['src/**/*.test.ts', 'test/**/*.test.ts'];
const LONG = ['src/**/*.full.test.ts', 'test/**/*.full.test.ts'];
/** A test that repeats itself: a little in the quick suite, and once more in the full one, where it does so often. */
const FUZZ = 'test/trust/fuzz.test.ts';

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
          env: { FUZZ_RUNS: '150' },
        },
      },
      {
        extends: true,
        test: {
          name: 'full',
          include: [...LONG, FUZZ],
          env: { FUZZ_RUNS: '1000' },
        },
      },
    ],
  },
});
