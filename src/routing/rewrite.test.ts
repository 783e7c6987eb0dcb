import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalise } from './canonical-path.ts';
import { matches, type Pattern, parsePattern } from './pattern.ts';
import { originalPath, rewriteOf, rewriteSegments, rewriteTarget } from './rewrite.ts';

const patternOf = (text: string): Pattern => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return parsed.pattern;
};
const rewritten = (match: string, to: string, target: string) => rewriteTarget(rewriteOf(patternOf(match), to), target);

describe('a rewrite replaces the literal beginning of the match, and nothing else', () => {
  test.each([
    ['* /callbacks/orders', '/api/v1/acme/42', '/callbacks/orders', '/api/v1/acme/42'],
    ['* /callbacks/orders', '/api/v1/acme/42', '/callbacks/orders/', '/api/v1/acme/42/'],
    [
      '* /callbacks/orders',
      '/api/v1/acme/42',
      '/callbacks/orders?a=/callbacks/orders',
      '/api/v1/acme/42?a=/callbacks/orders',
    ],
    ['* /shop/**', '/admin/v2', '/shop', '/admin/v2'],
    ['* /shop/**', '/admin/v2', '/shop?', '/admin/v2?'],
    ['* /shop/**', '/admin/v2', '/shop/a%20b/%C3%a9/?x=%5B1%5d&y=a+b', '/admin/v2/a%20b/%C3%a9/?x=%5B1%5d&y=a+b'],
    ['* /shop/**', '/admin/v2/', '/sh%6Fp/shop/1', '/admin/v2/shop/1'],
    ['* /shop/*/items', '/v2', '/shop/7/items', '/v2/7/items'],
    ['* /shop/**', '/', '/shop', '/'],
    ['* /shop/**', '/', '/shop/?a', '/?a'],
    ['* /**', '/v2', '/a/b', '/v2/a/b'],
    ['* /*/a', '/v2', '/x/a?b', '/v2/x/a?b'],
  ])('%s by %s: %s → %s', (match, to, target, sent) => {
    expect(rewritten(match, to, target)).toBe(sent);
  });

  test('whatever follows, the upstream reads a path below the new beginning', () => {
    const pattern = patternOf('* /shop/**');
    const rewrite = rewriteOf(pattern, '/admin/v2');
    const piece = fc.constantFrom(
      '..',
      '.',
      '%2e',
      '%2E%2e',
      '/',
      '//',
      '%2f',
      '%5c',
      '\\',
      '%252e',
      ';',
      'a',
      '%20',
      '?',
      '..;',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const canonical = canonicalise(`/shop/${pieces.join('')}`);
        if (!canonical.ok || !matches(pattern, 'GET', canonical.target.segments)) return;
        const sent = rewriteTarget(rewrite, `/shop/${pieces.join('')}`);
        expect(new URL(`http://h${sent}`).pathname).toMatch(/^\/admin\/v2(?:\/|$)/);
        const read = canonicalise(sent);
        expect(read.ok && read.target.segments).toEqual(rewriteSegments(rewrite, canonical.target.segments));
        expect(read.ok && read.target.query).toBe(canonical.target.query);
      }),
      { numRuns: 3_000 },
    );
  });
});

test('a path of the upstream is that of callers again, if it has the new beginning', () => {
  const rewrite = rewriteOf(patternOf('* /shop/**'), '/admin/v2');
  expect(originalPath(rewrite, '/admin/v2/orders?page=2')).toBe('/shop/orders?page=2');
  expect(originalPath(rewrite, '/admin/v2')).toBe('/shop');
  for (const other of ['/admin/v20/x', '/admin', '/', '', '/x/admin/v2'])
    expect(originalPath(rewrite, other)).toBe(other);
  expect(originalPath(rewriteOf(patternOf('* /shop/**'), '/'), '/orders')).toBe('/shop/orders');
});
