import { defineConfig } from 'vitest/config';

const FULL = ['src/**/*.full.test.ts', 'test/**/*.full.test.ts'];

export default defineConfig({
  test: {
    // Real sockets and child processes on a small machine: a hung test must fail, a slow one must not.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: 'forks',
    maxWorkers: 2,
    // Nothing happens at import time, so files can share a process: each would load the whole program again.
    isolate: false,
    globalSetup: 'test/support/global-setup.ts',
    projects: [
      {
        extends: true,
        test: { name: 'quick', include: ['src/**/*.test.ts', 'test/**/*.test.ts'], exclude: FULL },
      },
      // What takes long: it runs in CI and by `npm run test:full`.
      { extends: true, test: { name: 'full', include: FULL } },
    ],
  },
});
