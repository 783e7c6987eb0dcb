import { layoutOf } from './package.mjs';

/**
 * @typedef {'required' | 'optimal' | 'check'} Kind
 * @typedef {{ id: string, name: string, kind?: Kind, browser_only?: boolean, depends_on?: string[], requests: object[] }} Test
 * @typedef {{ id: string, name: string, tests: Test[] }} TestSet
 * True for passed; else the kind of failure and what it was.
 * @typedef {Record<string, true | [kind: string, what: string]>} Results
 */

/** How many tests are under way at once. Some count seconds: the more there are, the less exact their clocks. */
const AT_ONCE = 60;

/**
 * All tests for a cache that is no browser, as the suite's own command takes them.
 * @param {string} folder
 * @returns {Promise<TestSet[]>}
 */
export async function loadTests(folder) {
  /** @type {(TestSet | TestSet[])[]} */
  const files = await Promise.all(layoutOf(folder).tests.map(async (file) => (await import(file)).default));
  return files.flat().map((set) => ({
    ...set,
    tests: set.tests.filter((test) => test.browser_only !== true).map(separate),
  }));
}

/** Tests share parts of their requests, and the client writes into them. */
const separate = (/** @type {Test} */ test) => ({
  ...test,
  requests: test.requests.map((each) => structuredClone(each)),
});

/**
 * Runs them with the suite's own client.
 *
 * The suite gives each test a path of its own, but a write drops the whole collection it was made to (drops.ts), which
 * would be all tests at once. So each gets a folder of its own: `/test/ID` becomes `/ID/test/ID`.
 * @param {string} folder @param {TestSet[]} sets @param {ReturnType<typeof import('./client.mjs').plainFetch>} fetch
 * @param {string} base where the cache listens
 * @returns {Promise<Results>}
 */
export async function runTests(folder, sets, fetch, base) {
  const { runner: path, callsGlobalFetch } = layoutOf(folder);
  const runner = await import(path);
  const apart = (/** @type {string} */ url, /** @type {Parameters<typeof fetch>[1]} */ init) => {
    const [path = '', id = ''] = /^\/\w+\/([\w-]+)/.exec(url.slice(base.length)) ?? [];
    if (path === '') throw new Error(`not a request of the suite: ${url}`);
    return fetch(`${base}/${id}${url.slice(base.length)}`, init);
  };
  if (!callsGlobalFetch) {
    await runner.runTests(sets, apart, false, base, AT_ONCE);
    return runner.getResults();
  }
  const usual = globalThis.fetch;
  globalThis.fetch = /** @type {any} */ (apart);
  try {
    await runner.runTests(sets, false, base, AT_ONCE);
  } finally {
    globalThis.fetch = usual;
  }
  return runner.getResults();
}
