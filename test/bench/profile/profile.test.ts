import { expect, test } from 'vitest';
import { byFunction, byGroup, callTree, selfTimes } from './analyse.mjs';
import { flame } from './flame.mjs';
import { ownerOf } from './groups.mjs';
import { profileText } from './report.mjs';

const frame = (functionName: string, url = '', lineNumber = 0) => ({ functionName, url, lineNumber, columnNumber: 0 });
const SERVE = 'file:///app/dist/cache/cached-response.js';
const node = (id: number, callFrame: ReturnType<typeof frame>, children: number[] = []) => ({
  id,
  callFrame,
  children,
});

/** root → serve (two call sites) → writev; beside idle time. */
const profile = {
  startTime: 1_000,
  endTime: 2_000,
  nodes: [
    node(1, frame('(root)'), [2, 3, 4]),
    node(2, frame('(idle)')),
    node(3, frame('serve', SERVE, 9), [5]),
    node(4, frame('emit', 'node:events', 4), [6]),
    node(5, frame('writev')),
    node(6, frame('serve', SERVE, 9)),
  ],
  samples: [2, 3, 5, 6, 4, 3],
  timeDeltas: [100, 100, 300, 200, 50, 500],
};

test('only what was sampled in the time of the load counts', () => {
  const self = selfTimes(profile, { from: 1_150, to: 1_800 });
  expect(Object.fromEntries(self)).toEqual({ 3: 100, 5: 300, 6: 200, 4: 50 });
});

test('the tree holds all time but the idle, the same callee of the same caller once', () => {
  const tree = callTree(profile, selfTimes(profile, { from: 0, to: 9_999 }));
  expect(tree.total).toBe(1_150);
  expect(tree.children.map(({ name, total, self }) => [name, total, self])).toEqual([
    ['serve', 900, 600],
    ['emit', 250, 50],
  ]);
});

test('self time adds up by function, wherever it was called, and by owner', () => {
  const tree = callTree(profile, selfTimes(profile, { from: 0, to: 9_999 }));
  expect(byFunction(tree).map(({ name, place, self }) => [name, place, self])).toEqual([
    ['serve', 'cache/serve.js:10', 800],
    ['writev', '', 300],
    ['emit', 'node:events:5', 50],
  ]);
  expect(byGroup(tree).map(({ name, self }) => [name, self])).toEqual([
    ['patchgate cache', 800],
    ['native: called from JavaScript', 300],
    ['node events', 50],
  ]);
  expect(profileText(tree, { requests: 10, cpuMs: 1 })).toContain('   696    80.00   patchgate cache');
});

test.each([
  ['file:///app/dist/context.js', 'patchgate ground', 'context.js:1'],
  ['file:///app/node_modules/undici/lib/core/util.js', 'undici', 'undici/lib/core/util.js:1'],
  [
    'file:///app/node_modules/@hono/node-server/dist/index.mjs',
    '@hono/node-server',
    '@hono/node-server/dist/index.mjs:1',
  ],
  ['file:///app/node_modules/a/node_modules/b/index.js', 'b', 'b/index.js:1'],
  ['node:_http_outgoing', 'node http', 'node:_http_outgoing:1'],
  ['node:internal/streams/writable', 'node streams', 'node:internal/streams/writable:1'],
])('%s is of %s', (url, group, place) => {
  expect(ownerOf(frame('f', url))).toEqual({ group, place });
});

test('the picture has a box for each frame that can be seen, and no name breaks it', () => {
  const odd = { ...profile, nodes: profile.nodes.map((each) => (each.id === 5 ? node(5, frame('<a & "b">')) : each)) };
  const svg = flame(callTree(odd, selfTimes(odd, { from: 0, to: 9_999 })), { title: 'T', about: 'A' });
  expect(svg.match(/<g>/g)).toHaveLength(5);
  expect(svg).toContain('&#60;a &#38; &#34;b&#34;&#62;');
});

test('a regular expression is not written out in full', () => {
  const long = {
    ...profile,
    nodes: profile.nodes.map((each) => (each.id === 5 ? node(5, frame('x'.repeat(500))) : each)),
  };
  expect(byFunction(callTree(long, selfTimes(long, { from: 0, to: 9_999 })))[1]?.name).toHaveLength(70);
});
