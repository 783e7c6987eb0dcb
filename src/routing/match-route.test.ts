import { expect, test } from 'vitest';
import { type RequestContext, type Result, reject } from '../context.ts';
import { matchRoute, type Route, type Routed } from './match-route.ts';
import { parsePattern } from './pattern.ts';

const route = (text: string, account = 'main'): Route => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  const upstream = { id: account, account, origin: 'http://core.test', timeoutMs: 1_000 };
  return { match: parsed.pattern, template: text.slice(text.indexOf(' ') + 1), upstream, rewriteLinks: false };
};

/** What a request is read as, from a stage that lives as long as a configuration. */
function reader(routes: readonly Route[]) {
  const seen: Routed[] = [];
  const handler = matchRoute(routes)((context) => {
    seen.push(context);
    return reject('internal');
  });
  return (method: string, target: string): { outcome: Result; routed: Routed | undefined } => {
    seen.length = 0;
    const context = { method, target, record: { route: '' } } as unknown as RequestContext;
    const outcome = handler(context) as Result;
    return { outcome, routed: seen[0] };
  };
}

const codeOf = ({ outcome }: { outcome: Result }) => (outcome.kind === 'rejection' ? outcome.code : null);

test('what is remembered of a target is no other target’s and no other method’s', () => {
  const read = reader([route('GET /a/*'), route('POST /a/**')]);
  for (let round = 0; round < 2; round++) {
    expect(read('GET', '/a/1?x=1').routed).toMatchObject({ path: '/a/1', query: 'x=1', segments: ['a', '1'] });
    expect(read('GET', '/a/1?x=2').routed).toMatchObject({ query: 'x=2', candidates: [{ template: '/a/*' }] });
    expect(read('POST', '/a/1?x=1').routed).toMatchObject({ candidates: [{ template: '/a/**' }] });
    expect(codeOf(read('DELETE', '/a/1?x=1'))).toBe('route_unknown');
  }
});

test('what is refused is refused each time', () => {
  const read = reader([route('* /**')]);
  for (let round = 0; round < 2; round++) {
    expect(codeOf(read('GET', '/a/../b'))).toBe('path_not_canonical');
    expect(codeOf(read('POST', '/a?_method=DELETE'))).toBe('bad_request');
    expect(codeOf(read('GET', '/_gateway/x'))).toBe('route_unknown');
  }
});

test('a target that is asked for again is not read again; one that is very long is, and so is the oldest of very many', () => {
  const read = reader([route('GET /**')]);
  const segmentsOf = (target: string) => read('GET', target).routed?.segments;
  const first = segmentsOf('/a/b');
  expect(segmentsOf('/a/b')).toBe(first);
  const long = `/${'x'.repeat(600)}`;
  expect(segmentsOf(long)).not.toBe(segmentsOf(long));
  for (let i = 0; i < 3_000; i++) segmentsOf(`/a/${i}`);
  expect(segmentsOf('/a/b')).not.toBe(first);
  expect(segmentsOf('/a/b')).toEqual(first);
});
