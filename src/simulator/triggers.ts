import { createHmac } from 'node:crypto';
import { type Decision, MAX_BODY_BYTES, type Request, type SimulatorState } from './application.ts';
import type { Arrival } from './record.ts';
import { json, message, type Result } from './result.ts';
import type { Trigger, TriggerHost } from './trigger-options.ts';

/** The documentation names neither the status for a wrong signature nor that for a wrong hash. */
const WRONG_SIGNATURE = 401;
const WRONG_HASH = 403;

/**
 * Signature, throttle, hash, flow. A webhook takes its signature in the query, a callback in the query or the header
 * `patchworks-signature`. Both accept GET and POST.
 */
export function decideTrigger(
  state: SimulatorState,
  host: TriggerHost,
  triggers: readonly Trigger[],
  request: Request,
  arrival: Arrival,
): Decision {
  const { method, path, segments } = request;
  const plain = (result: Result, headers: readonly string[] = []): Decision => ({ result, headers, fault: null });
  if (request.bodyBytes > MAX_BODY_BYTES) return plain(message(413, 'The POST data is too large.'));
  const trigger = triggers.find((each) => each.kind === host.kind && segments.join('/') === `api/v1/${each.path}`);
  if (trigger === undefined) return plain(message(404, `The route ${path.slice(1)} could not be found.`));
  if (!['GET', 'HEAD', 'POST'].includes(method)) {
    return plain(message(405, `The ${method} method is not supported for route ${path.slice(1)}.`), [
      ...['Allow', 'GET, HEAD, POST'],
    ]);
  }
  if (!isSigned(trigger, request)) {
    state.recorder.unauthenticated();
    return plain(message(WRONG_SIGNATURE, 'Unauthenticated.'));
  }
  arrival.account = host.id;
  arrival.credential = trigger.path;
  const throttled = state.throttle.hit(host.id, host.limit);
  if (throttled.rejected) {
    state.recorder.throttled(host.id);
    return plain(message(429, 'Too Many Attempts.'), throttled.headers);
  }
  arrival.counted = true;
  arrival.countedAt = state.clock.monotonic();
  state.recorder.counted(host.id, arrival.countedAt);
  const { headers } = throttled;
  const before = state.faults.next('application', method, segments);
  if (before !== null) return { result: message(500, 'Server Error'), headers, fault: before };
  if (!isHashed(trigger, request)) return plain(message(WRONG_HASH, 'The hash is wrong.'), headers);
  return { result: begin(state, trigger, request), headers, fault: state.faults.next('response', method, segments) };
}

function isSigned({ kind, signature }: Trigger, { rawQuery, headers }: Request): boolean {
  // PHP takes the last of several.
  if (new URLSearchParams(rawQuery).getAll('patchworks_signature').at(-1) === signature) return true;
  return kind === 'callback' && headers['patchworks-signature'] === signature;
}

function isHashed({ hmacKey }: Trigger, { headers, body }: Request): boolean {
  if (hmacKey === undefined) return true;
  return headers['x-hmac-hash'] === createHmac('sha256', hmacKey).update(body).digest('hex');
}

/** Starts a run, which the Core API lists with its trigger. */
function begin(state: SimulatorState, { kind, flow: id, answer }: Trigger, { body, rawQuery }: Request): Result {
  const [[account, own] = []] = state.accounts;
  const flow = own?.data.get('flows', id);
  if (account === undefined || own === undefined || flow === undefined) return message(404, 'Not Found');
  const version = flow['deployed_version'];
  if (typeof version !== 'number' || flow['is_enabled'] === false) return message(404, 'The flow is not active.');
  // A webhook is an operation. Callbacks are not listed as such.
  const rejection = state.operations.charge(account, kind === 'webhook' ? 1 : 0);
  if (rejection !== null) return rejection;
  own.runs.advance();
  const fields = { flow_id: id, flow_version: version, trigger: kind === 'webhook' ? 'Webhook' : 'Callback' };
  // A callback answers when its flow has run up to the callback shape: it has left the queue by then.
  const run = own.runs.begin(fields, { queued: kind === 'webhook' });
  // A body has priority over the parameters of the URL.
  const parameters = new URLSearchParams(rawQuery);
  parameters.delete('patchworks_signature');
  const bytes = body.length > 0 ? body.length : Buffer.byteLength(JSON.stringify(Object.fromEntries(parameters)));
  own.data.create('payload-metadata', { flow_run_id: run.id, bytes, created_at: run['created_at'] });
  if (answer !== undefined) return json(answer.status, answer.body);
  return json(200, kind === 'webhook' ? { message: 'Flow initialised.' } : [{ flow_run_id: run.id }]);
}
