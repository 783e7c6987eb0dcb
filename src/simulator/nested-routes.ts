import { validateHeaderValue } from 'node:http';
import { withItem } from './collection-routes.ts';
import { type Item, secretOf } from './items.ts';
import { invalid, json, objectOf, type Result } from './result.ts';
import type { Call, Routes } from './router.ts';

/** Routes that are neither a collection nor an item of one. */
export const nestedRoutes: Routes = {
  'POST /api/v1/flows/import': ({ data, body, switches }) => {
    const fields = objectOf(body);
    if (fields === null) return invalid({ flow: { array: 'The flow must be an object.' } }, switches);
    return json(switches.createStatus, { data: data.create('flows', { deployed_version: null, ...fields }) });
  },
  'GET /api/v1/flow-versions/*/steps': withItem('flow-versions', (_call, { id }) => {
    const settings = { note: 'x'.repeat(200), password: secretOf('steps', id) };
    return json(200, { data: Array.from({ length: 40 }, (_, index) => ({ id: index + 1, kind: 'map', settings })) });
  }),
  'GET /api/v1/data-pool/*/deduped-data': withItem('data-pool', ({ clock }, { id }) => {
    // The time in the data shows when a copy was cached too long.
    const seen_at = new Date(clock.now()).toISOString();
    const value = secretOf('deduped-data', id);
    return json(200, { data: Array.from({ length: 500 }, (_, index) => ({ id: index + 1, seen_at, value })) });
  }),
  'POST /api/v1/agents/conversations/*/reply': withItem('agents/conversations', (_call, { id }) =>
    json(200, { data: { id, reply: secretOf('reply', id) } }),
  ),
  'GET /api/v1/payload-metadata/*/download': withItem('payload-metadata', download),
};

/**
 * A payload has the form in which it was stored, so the test chooses it: `?bytes=N`, `?type=` for the Content-Type,
 * `?framing=chunked` without a length, `?redirect=URL` for a 302.
 */
function download({ rawQuery, switches }: Call, item: Item): Result {
  const query = new URLSearchParams(rawQuery);
  const location = query.get('redirect');
  const type = query.get('type') ?? 'application/octet-stream';
  try {
    validateHeaderValue('Location', location ?? '');
    validateHeaderValue('Content-Type', type);
  } catch {
    return invalid({ query: { value: 'The type and redirect must be values that a header can carry.' } }, switches);
  }
  if (location !== null) return { kind: 'redirect', location };
  const bytes = Number(query.get('bytes') ?? item['bytes']);
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    return invalid({ bytes: { integer: 'The bytes must be a whole number.' } }, switches);
  }
  return { kind: 'download', bytes, type, framing: query.get('framing') === 'chunked' ? 'chunked' : 'length' };
}
