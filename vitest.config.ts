import { defineConfig } from 'vitest/config';

const ALL = ['src/**/*.test.ts', 'test/**/*.test.ts'];
const LONG = ['src/**/*.full.test.ts', 'test/**/*.full.test.ts'];
/** Tests with a little of what they try in the quick suite, and all of it in the full one. */
const IN_BOTH = ['test/trust/fuzz.test.ts', 'test/redis/quota-callers.test.ts'];

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
          env: { EFFORT: 'quick' },
        },
      },
      {
        extends: true,
        test: {
          name: 'full',
          include: [...LONG, ...IN_BOTH],
          env: { EFFORT: 'full' },
        },
      },
    ],
  },
});
