import { expect, test } from 'vitest';
import type { Settings } from '../config/model.ts';
import type { Standing, UpstreamStatus } from '../edge/status-document.ts';
import { mergeUpstreams } from './merged.ts';

const settings = { upstreams: new Map([['core', {}]]) } as unknown as Settings;
const part = (core: UpstreamStatus) => ({ upstreams: { core } }) as unknown as Standing;
const of = (breaker: UpstreamStatus['breaker'], openForMs = 0): UpstreamStatus => {
  return { breaker, openForMs, inFlight: 2, waiting: 1 };
};

test('of the breakers of an upstream the worst counts, and its longest pause; what is under way is added up', () => {
  const merged = (...all: UpstreamStatus[]) => mergeUpstreams(settings, all.map(part))['core'];
  expect(merged(of('closed'), of('open', 300), of('half-open'), of('open', 200))).toEqual({
    ...{ breaker: 'open', openForMs: 300, inFlight: 8, waiting: 4 },
  });
  expect(merged(of('closed'), of('half-open'))?.breaker).toBe('half-open');
  expect(merged()).toEqual({ breaker: 'closed', openForMs: 0, inFlight: 0, waiting: 0 });
});
