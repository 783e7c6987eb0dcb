import { invalid, json, missing, objectOf, type Result } from './result.ts';
import type { Call, RouteHandler, Routes } from './router.ts';

const WAYS = ['start', 'start/raw', 'manual', 'manual/raw'];

/** Routes that start flows. The raw ones take the JSON itself, the others `{"payload": "…"}`; all take an empty body or `{}`. */
export const flowRoutes: Routes = {
  ...Object.fromEntries(
    WAYS.flatMap((way): [string, RouteHandler][] => [
      [`POST /api/v1/flows/*/${way}`, (call) => start(call, way)],
      [`POST /api/v1/flows/*/${way}/*`, (call) => start(call, way, call.segments.at(-1))],
    ]),
  ),
  'POST /api/v1/flow-runs/*/retry': ({ data, runs, segments, account, operations, switches }) => {
    const run = data.get('flow-runs', segments[3] ?? '');
    if (run === undefined) return missing('FlowRun', segments[3]);
    const rejection = operations.charge(account, switches.countRetries ? 1 : 0);
    if (rejection !== null) return rejection;
    const again = runs.begin({ flow_id: run['flow_id'], retry_of: run.id, trigger: 'Retry' }, { queued: false });
    return json(200, { data: { id: again.id, flow_id: run['flow_id'], status: again['status'] } });
  },
};

function start(call: Call, way: string, version?: string): Result {
  const { data, runs, segments, body, account, switches, clock, operations } = call;
  const refuse = (field: string, rule: string, text: string) => invalid({ [field]: { [rule]: text } }, switches);
  const flow = data.get('flows', segments[3] ?? '');
  if (flow === undefined) return missing('Flow', segments[3]);
  const deployed = flow['deployed_version'];
  if (typeof deployed !== 'number') return refuse('flow', 'deployed', 'The flow has no deployed version.');
  if (version !== undefined && !(Number.isSafeInteger(Number(version)) && Number(version) >= 1)) {
    return refuse('version', 'integer', 'The version must be a whole number.');
  }
  // Versions up to the latest deployed one were deployed in their time.
  if (Number(version ?? deployed) > deployed) return refuse('version', 'deployed', 'The version is not deployed.');
  if (way === 'start' || way === 'manual') {
    const payload = objectOf(body)?.['payload'];
    if (payload !== undefined && typeof payload !== 'string') {
      return refuse('payload', 'string', 'The payload must be a string.');
    }
  }
  // Only a call that becomes the first step of a flow is an operation.
  const rejection = operations.charge(account, 1);
  if (rejection !== null) return rejection;
  const isManual = way.startsWith('manual');
  const fields = { flow_id: flow.id, flow_version: Number(version ?? deployed), trigger: isManual ? 'Manual' : 'API' };
  const run = runs.begin(fields, { queued: !isManual || switches.queueManual });
  if (body.length > 0) {
    const created_at = new Date(clock.now()).toISOString();
    data.create('payload-metadata', { flow_run_id: run.id, bytes: body.length, created_at });
  }
  return json(200, { data: { id: run.id, flow_id: flow.id, status: run['status'] } });
}
