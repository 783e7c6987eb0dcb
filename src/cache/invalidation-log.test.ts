import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesPath, splitPath } from '../routing/pattern.ts';
import { createInvalidationLog, EVERYTHING, writtenCollection } from './invalidation-log.ts';

const FLOWS = ['api', 'v1', 'flows', '**'];
const FLOW = { segments: ['api', 'v1', 'flows', '1'], tags: ['definitions'] };
const SCRIPTS = ['api', 'v1', 'scripts'];

describe('the log of writes', () => {
  test('what arrived before a write is touched, what was asked for after it is not', () => {
    const drops = createInvalidationLog();
    const before = drops.latestWrite('main');
    drops.invalidate('main', { patterns: [FLOWS] });
    expect(drops.isValidSince('main', FLOW, before)).toBe(false);
    expect(drops.isValidSince('main', FLOW, drops.latestWrite('main'))).toBe(true);
    expect(drops.isValidSince('main', { segments: SCRIPTS, tags: [] }, before)).toBe(true);
  });

  test('a tag drops what carries it, wherever it is', () => {
    const drops = createInvalidationLog();
    drops.invalidate('main', { patterns: [], tags: ['definitions'] });
    expect(drops.isValidSince('main', FLOW, 0)).toBe(false);
    expect(drops.isValidSince('main', { ...FLOW, tags: ['other'] }, 0)).toBe(true);
  });

  test("a write to one account leaves another's answers alone", () => {
    const drops = createInvalidationLog();
    drops.invalidate('main', EVERYTHING);
    expect(drops.isValidSince('other', FLOW, 0)).toBe(true);
  });

  test('what it has forgotten counts as touched', () => {
    const drops = createInvalidationLog(2);
    for (let i = 0; i < 4; i++) drops.invalidate('main', { patterns: [SCRIPTS] });
    expect(drops.isValidSince('main', FLOW, 0)).toBe(false);
    expect(drops.isValidSince('main', FLOW, 3)).toBe(true);
  });

  test('never passes for untouched what a full log would call touched', () => {
    const path = fc.constantFrom('/a', '/a/1', '/a/2', '/b', '/b/1').map(splitPath);
    const written = fc.constantFrom(['a', '**'], ['a', '*'], ['b'], ['**']);
    const steps = fc.array(fc.tuple(path, written), { maxLength: 30 });
    fc.assert(
      fc.property(steps, path, fc.nat(30), fc.integer({ min: 1, max: 5 }), (writes, asked, from, remembered) => {
        const drops = createInvalidationLog(remembered);
        for (const [, pattern] of writes) drops.invalidate('main', { patterns: [pattern] });
        const since = Math.min(from, writes.length);
        const touched = writes.slice(since).some(([, pattern]) => matchesPath(pattern, asked));
        if (touched) expect(drops.isValidSince('main', { segments: asked, tags: [] }, since)).toBe(false);
        // And while it remembers, nothing is dropped without need.
        else if (writes.length - since <= remembered)
          expect(drops.isValidSince('main', { segments: asked, tags: [] }, since)).toBe(true);
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
