import { expect, test } from 'vitest';
import { parsePattern, splitPath } from './pattern.ts';
import { routeLabel } from './route-label.ts';

const label = (text: string, path: string) => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  const route = { match: parsed.pattern, template: text.slice(text.indexOf(' ') + 1) };
  return routeLabel(route, splitPath(path));
};

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
  expect(label(pattern, path)).toBe(expected);
});
