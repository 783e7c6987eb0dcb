import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesPath, splitPath } from '../routing/pattern.ts';
import { createDrops, EVERYTHING, writtenCollection } from './drops.ts';

const FLOWS = ['api', 'v1', 'flows', '**'];
const FLOW = { segments: ['api', 'v1', 'flows', '1'], tags: ['definitions'] };
const SCRIPTS = ['api', 'v1', 'scripts'];

describe('the log of writes', () => {
  test('what arrived before a write is touched, what was asked for after it is not', () => {
    const drops = createDrops();
    const before = drops.latest('main');
    drops.drop('main', { patterns: [FLOWS] });
    expect(drops.untouchedSince('main', FLOW, before)).toBe(false);
    expect(drops.untouchedSince('main', FLOW, drops.latest('main'))).toBe(true);
    expect(drops.untouchedSince('main', { segments: SCRIPTS, tags: [] }, before)).toBe(true);
  });

  test('a tag drops what carries it, wherever it is', () => {
    const drops = createDrops();
    drops.drop('main', { patterns: [], tags: ['definitions'] });
    expect(drops.untouchedSince('main', FLOW, 0)).toBe(false);
    expect(drops.untouchedSince('main', { ...FLOW, tags: ['other'] }, 0)).toBe(true);
  });

  test("a write to one account leaves another's answers alone", () => {
    const drops = createDrops();
    drops.drop('main', EVERYTHING);
    expect(drops.untouchedSince('other', FLOW, 0)).toBe(true);
  });

  test('what it has forgotten counts as touched', () => {
    const drops = createDrops(2);
    for (let i = 0; i < 4; i++) drops.drop('main', { patterns: [SCRIPTS] });
    expect(drops.untouchedSince('main', FLOW, 0)).toBe(false);
    expect(drops.untouchedSince('main', FLOW, 3)).toBe(true);
  });

  test('never passes for untouched what a full log would call touched', () => {
    const path = fc.constantFrom('/a', '/a/1', '/a/2', '/b', '/b/1').map(splitPath);
    const written = fc.constantFrom(['a', '**'], ['a', '*'], ['b'], ['**']);
    const steps = fc.array(fc.tuple(path, written), { maxLength: 30 });
    fc.assert(
      fc.property(steps, path, fc.nat(30), fc.integer({ min: 1, max: 5 }), (writes, asked, from, remembered) => {
        const drops = createDrops(remembered);
        for (const [, pattern] of writes) drops.drop('main', { patterns: [pattern] });
        const since = Math.min(from, writes.length);
        const touched = writes.slice(since).some(([, pattern]) => matchesPath(pattern, asked));
        if (touched) expect(drops.untouchedSince('main', { segments: asked, tags: [] }, since)).toBe(false);
        // And while it remembers, nothing is dropped without need.
        else if (writes.length - since <= remembered)
          expect(drops.untouchedSince('main', { segments: asked, tags: [] }, since)).toBe(true);
      }),
    );
  });
});

test.each([
  ['/api/v1/flows', '/api/v1/flows/**'],
  ['/api/v1/flows/1', '/api/v1/flows/**'],
  ['/api/v1/flow-runs/1/retry', '/api/v1/flow-runs/1/**'],
  ['/fabric/api/v2/companies/1', '/fabric/api/v2/companies/**'],
  ['/things/1', '/things/**'],
  ['/things', '/things/**'],
  ['/', '/**'],
])('a write to %s drops %s: the collection and never the whole API', (path, pattern) => {
  expect(`/${writtenCollection(splitPath(path)).join('/')}`).toBe(pattern);
});
