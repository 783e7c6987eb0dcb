import { expect, test } from 'vitest';
import { type RequestContext, reject } from '../context.ts';
import { matchRoute, type Route, type Routed, routeLabel } from './match-route.ts';
import { parsePattern, splitPath } from './pattern.ts';

const PLAIN = {
  rewrite: null,
  credential: null,
  secretHeaders: new Set<string>(),
  secretParameters: [],
  starts: false,
};

const route = (text: string, account = 'main'): Route => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  const upstream = { id: account, account, origin: 'http://core.test', timeoutMs: 1_000 };
  return {
    match: parsed.pattern,
    template: text.slice(text.indexOf(' ') + 1),
    upstream,
    rewriteLinks: false,
    ...PLAIN,
  };
};

/** Resolves targets with one middleware, as a configuration does for its whole life. */
function resolver(routes: readonly Route[]) {
  let routed: Routed | undefined;
  const handler = matchRoute(routes)(async (context) => {
    routed = context;
    return reject('internal');
  });
  return async (method: string, target: string) => {
    routed = undefined;
    const result = await handler({ method, target, record: { route: '' } } as unknown as RequestContext);
    return { code: result.kind === 'rejection' ? result.code : null, routed: routed as Routed | undefined };
  };
}

test('a remembered target is used for no other target and no other method', async () => {
  const resolve = resolver([route('GET /a/*'), route('POST /a/**')]);
  const routed = async (method: string, target: string) => (await resolve(method, target)).routed;
  for (let round = 0; round < 2; round++) {
    expect(await routed('GET', '/a/1?x=1')).toMatchObject({ path: '/a/1', query: 'x=1', segments: ['a', '1'] });
    expect(await routed('GET', '/a/1?x=2')).toMatchObject({ query: 'x=2', candidates: [{ template: '/a/*' }] });
    expect(await routed('GET', '/a/1?x=%41%2c')).toMatchObject({ query: 'x=%41%2c', canonicalQuery: 'x=A,' });
    expect(await routed('POST', '/a/1?x=1')).toMatchObject({ candidates: [{ template: '/a/**' }] });
    expect((await resolve('DELETE', '/a/1?x=1')).code).toBe('route_unknown');
  }
});

test('a rejected target is rejected each time', async () => {
  const resolve = resolver([route('* /**')]);
  for (let round = 0; round < 2; round++) {
    expect((await resolve('GET', '/a/../b')).code).toBe('path_not_canonical');
    expect((await resolve('POST', '/a?_method=DELETE')).code).toBe('bad_request');
    expect((await resolve('GET', '/_gateway/x')).code).toBe('route_unknown');
  }
});

test('a repeated target is resolved once; a very long one is not remembered, nor is any number of them', async () => {
  const resolve = resolver([route('GET /**')]);
  const segmentsOf = async (target: string) => (await resolve('GET', target)).routed?.segments;
  const first = await segmentsOf('/a/b');
  expect(await segmentsOf('/a/b')).toBe(first);
  const long = `/${'x'.repeat(600)}`;
  expect(await segmentsOf(long)).not.toBe(await segmentsOf(long));
  for (let i = 0; i < 3_000; i++) await segmentsOf(`/a/${i}`);
  expect(await segmentsOf('/a/b')).not.toBe(first);
  expect(await segmentsOf('/a/b')).toEqual(first);
});

test.each([
  ['* /api/v1/**', '/api/v1/flow-runs', '/api/v1/flow-runs'],
  ['* /api/v1/**', '/api/v1/flow-runs/17/flow-run-logs', '/api/v1/flow-runs'],
  ['* /**', '/api/v1/flows/1', '/api/v1/flows'],
  ['* /api/v1/**', '/api/v1/of-a-callers-invention', 'other'],
  ['* /api/v1/**', '/api/v1/__proto__/x', 'other'],
  ['* /api/v1/**', '/api/v1', '/api/v1/**'],
  ['* /api/v2/**', '/api/v2/flows', '/api/v2/**'],
  ['* /**', '/fabric/x', '/**'],
  ['POST /api/v1/flows/*/start/**', '/api/v1/flows/1/start/2', '/api/v1/flows/*/start/**'],
  ['GET /api/v1/flow-runs/**', '/api/v1/flow-runs/1', '/api/v1/flow-runs/**'],
  ['GET /api/v1/flows', '/api/v1/flows', '/api/v1/flows'],
])('the label of %s for %s is %s', (pattern, path, expected) => {
  expect(routeLabel(route(pattern), splitPath(path))).toBe(expected);
});
