import type { Clock } from '../clock.ts';
import type { Operations } from './operations.ts';
import { invalid, json, missing, objectOf, type Result } from './result.ts';
import type { Add, Call } from './router.ts';
import type { Switches } from './switches.ts';

interface FlowParts {
  readonly switches: Switches;
  readonly clock: Clock;
  readonly operations: Operations;
}

/** Routes that start flows. */
export function addFlowRoutes(add: Add, parts: FlowParts): void {
  const { switches, operations } = parts;
  for (const way of ['start', 'start/raw', 'manual']) {
    const begin = (call: Call, version?: string) => start(call, way, version, parts);
    add(`POST /api/v1/flows/*/${way}`, (call) => begin(call));
    add(`POST /api/v1/flows/*/${way}/*`, (call) => begin(call, call.segments.at(-1)));
  }
  add('POST /api/v1/flow-runs/*/retry', ({ data, runs, segments, account }) => {
    const run = data.get('flow-runs', segments[3] ?? '');
    if (run === undefined) return missing('FlowRun', segments[3]);
    const rejection = operations.charge(account, switches.countRetries ? 1 : 0);
    if (rejection !== null) return rejection;
    const again = runs.begin({ flow_id: run['flow_id'], retry_of: run.id }, switches.runMs);
    return json(200, { data: { id: again.id, flow_id: run['flow_id'], status: again['status'] } });
  });
}

function start(call: Call, way: string, version: string | undefined, parts: FlowParts): Result {
  const { data, runs, segments, body, account } = call;
  const { switches, clock, operations } = parts;
  const flow = data.get('flows', segments[3] ?? '');
  if (flow === undefined) return missing('Flow', segments[3]);
  const deployed = flow['deployed_version'];
  if (typeof deployed !== 'number') return invalid({ flow: ['The flow has no deployed version.'] });
  if (version !== undefined && !(Number.isSafeInteger(Number(version)) && Number(version) >= 1)) {
    return invalid({ version: ['The version must be a whole number.'] });
  }
  // Versions up to the latest deployed one were deployed in their time.
  if (Number(version ?? deployed) > deployed) return invalid({ version: ['The version is not deployed.'] });
  if (way === 'start') {
    const payload = objectOf(body)?.['payload'];
    if (payload !== undefined && typeof payload !== 'string') {
      return invalid({ payload: ['The payload must be a string.'] });
    }
  }
  // Only a call that becomes the first step of a flow is an operation.
  const rejection = operations.charge(account, 1);
  if (rejection !== null) return rejection;
  const run = runs.begin({ flow_id: flow.id, flow_version: Number(version ?? deployed) }, switches.runMs);
  if (body.length > 0) {
    const created_at = new Date(clock.now()).toISOString();
    data.create('payload-metadata', { flow_run_id: run.id, bytes: body.length, created_at });
  }
  return json(200, { data: { id: run.id, flow_id: flow.id, status: run['status'] } });
}
