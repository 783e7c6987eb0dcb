import { validateHeaderValue } from 'node:http';
import type { Clock } from '../clock.ts';
import { listResult, queryOf } from './collection-routes.ts';
import { invalid, json, missing, objectOf, type Result } from './result.ts';
import type { Add, Call } from './router.ts';
import type { Switches } from './switches.ts';

/** Routes below an item: `/api/v1/COLLECTION/ID/…`, so the id is the fourth segment. */
export function addNestedRoutes(add: Add, switches: Switches, clock: Clock): void {
  add('POST /api/v1/flows/import', ({ data, body }) => {
    const fields = objectOf(body);
    if (fields === null) return invalid({ flow: ['The flow must be an object.'] });
    return json(201, { data: data.create('flows', { deployed_version: null, ...fields }) });
  });
  add('GET /api/v1/flow-versions/*/steps', ({ data, segments }) => {
    if (data.get('flow-versions', segments[3] ?? '') === undefined) return missing('FlowVersion', segments[3]);
    const steps = Array.from({ length: 40 }, (_, index) => ({ id: index + 1, kind: 'map', settings: 'x'.repeat(200) }));
    return json(200, { data: steps });
  });
  add('GET /api/v1/flow-runs/*/flow-run-logs', (call) => {
    const id = call.segments[3] ?? '';
    if (call.data.get('flow-runs', id) === undefined) return missing('FlowRun', id);
    const logs = call.data.all('flow-run-logs').filter((log) => String(log['flow_run_id']) === id);
    return listResult(logs, queryOf(call, 'flow-run-logs', switches, `/api/v1/flow-runs/${id}/flow-run-logs`));
  });
  add('GET /api/v1/data-pool/*/deduped-data', ({ data, segments }) => {
    if (data.get('data-pool', segments[3] ?? '') === undefined) return missing('DataPool', segments[3]);
    // The time in the data shows when a copy was cached too long.
    const seen_at = new Date(clock.now()).toISOString();
    return json(200, { data: Array.from({ length: 500 }, (_, index) => ({ id: index + 1, seen_at })) });
  });
  add('POST /api/v1/scripts/*/script-versions', ({ data, segments, body }) => {
    if (data.get('scripts', segments[3] ?? '') === undefined) return missing('Script', segments[3]);
    const fields = objectOf(body) ?? {};
    return json(201, { data: data.create('script-versions', { ...fields, script_id: Number(segments[3]) }) });
  });
  add('POST /api/v1/agents/conversations/*/reply', ({ data, segments }) => {
    if (data.get('agents/conversations', segments[4] ?? '') === undefined) return missing('Conversation', segments[4]);
    return json(200, { data: { id: Number(segments[4]), reply: 'Noted.' } });
  });
  add('GET /api/v1/payload-metadata/*/download', download);
}

/**
 * A payload has the form in which it was stored, so the test chooses it: `?bytes=N`, `?type=` for the Content-Type,
 * `?framing=chunked` without a length, `?redirect=URL` for a 302.
 */
function download({ data, segments, rawQuery }: Call): Result {
  const item = data.get('payload-metadata', segments[3] ?? '');
  if (item === undefined) return missing('PayloadMetadata', segments[3]);
  const query = new URLSearchParams(rawQuery);
  const location = query.get('redirect');
  const type = query.get('type') ?? 'application/octet-stream';
  try {
    validateHeaderValue('Location', location ?? '');
    validateHeaderValue('Content-Type', type);
  } catch {
    return invalid({ query: ['The type and redirect must be values that a header can carry.'] });
  }
  if (location !== null) return { kind: 'redirect', location };
  const bytes = Number(query.get('bytes') ?? item['bytes']);
  if (!Number.isSafeInteger(bytes) || bytes < 0) return invalid({ bytes: ['The bytes must be a whole number.'] });
  return { kind: 'download', bytes, type, framing: query.get('framing') === 'chunked' ? 'chunked' : 'length' };
}
