import { describe, expect, test } from 'vitest';
import { matches, overlap, parsePattern, splitPath } from './pattern.ts';

const hit = (text: string, method: string, path: string): boolean => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return matches(parsed.pattern, method, splitPath(path));
};

describe('a pattern', () => {
  test.each([
    ['GET /api/v1/flows', 'GET', '/api/v1/flows', true],
    ['GET /api/v1/flows', 'HEAD', '/api/v1/flows', true],
    ['GET /api/v1/flows', 'POST', '/api/v1/flows', false],
    ['HEAD /api/v1/flows', 'GET', '/api/v1/flows', false],
    ['* /api/v1/flows', 'DELETE', '/api/v1/flows/', true],
    ['GET /api/v1/flows/', 'GET', '/api/v1/flows', true],
    ['GET /api/*/flows', 'GET', '/api/v2/flows', true],
    ['GET /api/*/flows', 'GET', '/api/v2/x/flows', false],
    ['GET /a/**', 'GET', '/a', true],
    ['GET /a/**', 'GET', '/a/b/c', true],
    ['GET /a/**', 'GET', '/ab', false],
    ['POST /api/v1/flows/*/start/**', 'POST', '/api/v1/flows/7/start', true],
    ['POST /api/v1/flows/*/start/**', 'POST', '/api/v1/flows/7/start/raw/2', true],
    ['POST /api/v1/flows/*/start/**', 'POST', '/api/v1/flows/7/stop', false],
    ['* /**', 'GET', '/', true],
  ])('%s on %s %s: %s', (pattern, method, path, expected) => {
    expect(hit(pattern, method, path)).toBe(expected);
  });

  test.each([
    ['/api/v1', 'a method and a path'],
    ['get /api', 'in capitals'],
    ['GET api', 'must begin with /'],
    ['GET /a/**/b', 'only stand at the end'],
    ['GET /a*b', 'a whole segment'],
    ['GET /a?x=1', 'no ?'],
    ['GET /a//b', 'empty or a dot segment'],
    ['GET /a/../b', 'empty or a dot segment'],
    ['GET /a b', 'a method and a path'],
  ])('%s is refused and says why', (text, reason) => {
    const parsed = parsePattern(text);
    expect(parsed.ok).toBe(false);
    expect(!parsed.ok && parsed.reason).toContain(reason);
  });
});

describe('two patterns overlap if a request can match both', () => {
  const parse = (text: string) => {
    const parsed = parsePattern(text);
    if (!parsed.ok) throw new Error(parsed.reason);
    return parsed.pattern;
  };
  test.each([
    ['GET /a/**', '* /a', true],
    ['GET /a/**', 'GET /a/b/c', true],
    ['GET /a/**', 'GET /a/*/c/**', true],
    ['* /**', 'POST /a/b', true],
    ['GET /*/b', 'GET /a/**', true],
    ['HEAD /a', 'GET /a', true],
    ['GET /a', 'POST /a', false],
    ['GET /a', 'HEAD /a/**', true],
    ['GET /a', 'GET /a/b', false],
    ['GET /a/*/**', 'GET /a', false],
    ['GET /a/**', 'GET /b/**', false],
    ['GET /a/*', 'GET /a/b/c', false],
    ['GET /a/b', 'GET /a/c', false],
  ])('%s and %s: %s', (a, b, expected) => {
    expect([overlap(parse(a), parse(b)), overlap(parse(b), parse(a))]).toEqual([expected, expected]);
  });
});
