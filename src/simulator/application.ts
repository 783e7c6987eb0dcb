import type { Clock } from '../clock.ts';
import type { Contracts } from './contracts.ts';
import type { Credentials, Identity } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { Fault, Faults } from './faults.ts';
import { userOf } from './login-routes.ts';
import type { Operations } from './operations.ts';
import type { Recorder } from './record.ts';
import { message, type Result } from './result.ts';
import type { Call, Router, SimulatedRoute } from './router.ts';
import type { Runs } from './runs.ts';
import type { Switches } from './switches.ts';
import type { Throttle } from './throttle.ts';

/** The documented limit for POST data, in bytes: 8 MB as PHP reads `8M`. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** A complete request, with its body. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly segments: readonly string[];
  readonly rawQuery: string;
  readonly authorization: string | undefined;
  readonly contentType: string | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Buffer;
  /** The size of the body that arrived; `body` is empty if it is too large. */
  readonly bodyBytes: number;
  readonly base: string;
}

/** The fields of the record that authentication and throttle set. */
interface CountingMarks {
  account: string | null;
  credential: string | null;
  counted: boolean;
  countedAt: number | null;
}

export interface Decision {
  readonly result: Result;
  /** The limit headers, and Allow. */
  readonly headers: readonly string[];
  readonly fault: Fault | null;
}

export interface SimulatorState {
  readonly router: Router;
  readonly credentials: Credentials;
  readonly throttle: Throttle;
  readonly contracts: Contracts;
  readonly operations: Operations;
  readonly faults: Faults;
  readonly recorder: Recorder;
  readonly switches: Switches;
  readonly clock: Clock;
  readonly accounts: ReadonlyMap<string, { readonly data: Dataset; readonly runs: Runs }>;
}

const NONE: readonly string[] = [];
const plain = (result: Result, headers: readonly string[] = NONE): Decision => ({ result, headers, fault: null });

/**
 * The order of the checks in the Laravel application. The gateway's own count depends on it:
 *
 *     size, route, method    413, 404, 405: not counted
 *     authentication         401: not counted, no limit headers
 *     throttle               429: not counted
 *     model, authorisation   404, 403, 422, 500: counted
 */
export function decide(state: SimulatorState, request: Request, marks: CountingMarks): Decision {
  const { method, path, segments } = request;
  if (request.bodyBytes > MAX_BODY_BYTES) return plain(message(413, 'The POST data is too large.'));
  const found = state.router.find(method, segments);
  const name = path.replace(/^\/|\/$/g, '');
  if (found.kind === 'unknown') return plain(message(404, `The route ${name} could not be found.`));
  if (found.kind === 'method') {
    const allow = found.allow.join(', ');
    const text = `The ${method} method is not supported for route ${name}. Supported methods: ${allow}.`;
    return plain(message(405, text), ['Allow', allow]);
  }
  const entry = enter(state, found.route, request, marks);
  if (entry.kind === 'rejected') return entry.decision;

  const fault = state.faults.next('application', method, segments);
  if (fault !== null) return { result: message(500, 'Server Error'), headers: entry.headers, fault };
  const result = perform(state, found.route, request, entry.identity, entry.account);
  return { result, headers: entry.headers, fault: state.faults.next('response', method, segments) };
}

type Entry =
  | { kind: 'admitted'; identity: Identity | null; account: string; headers: readonly string[] }
  | { kind: 'rejected'; decision: Decision };

/** Authentication, then throttle. */
function enter(state: SimulatorState, route: SimulatedRoute, request: Request, marks: CountingMarks): Entry {
  const { credentials, switches, throttle, contracts, recorder } = state;
  const [first = ''] = state.accounts.keys();
  if (route.access === 'open' || (route.access === 'login' && !switches.countLogins)) {
    return { kind: 'admitted', identity: null, account: first, headers: NONE };
  }
  const identity = route.access === 'credential' ? credentials.identify(request.authorization) : null;
  if (route.access === 'credential' && identity === null) {
    recorder.unauthenticated();
    return { kind: 'rejected', decision: plain(message(401, 'Unauthenticated.')) };
  }
  const account = identity?.account ?? credentials.accountOf(userOf(request.body)) ?? first;
  marks.account = account;
  marks.credential = identity?.credential ?? null;
  // Two accounts may each have a key with the id "primary".
  const scope = switches.scope === 'account' ? account : `${account} ${marks.credential ?? 'login'}`;
  const throttled = throttle.hit(scope, contracts.limitOf(account));
  if (throttled.rejected) {
    recorder.throttled(account);
    return { kind: 'rejected', decision: plain(message(429, 'Too Many Attempts.'), throttled.headers) };
  }
  marks.counted = true;
  marks.countedAt = state.clock.monotonic();
  recorder.counted(account, marks.countedAt);
  return { kind: 'admitted', identity, account, headers: throttled.headers };
}

function perform(
  state: SimulatorState,
  route: SimulatedRoute,
  request: Request,
  identity: Identity | null,
  account: string,
): Result {
  const own = state.accounts.get(account);
  if (own === undefined) throw new Error(`no account ${account}`);
  const { body, contentType, segments, rawQuery, base } = request;
  if (state.switches.strictContentType && body.length > 0 && !contentType?.includes('json')) {
    return message(415, 'The content type is not supported.');
  }
  own.runs.advance();
  const { switches, clock, operations, credentials } = state;
  const call: Call = {
    segments,
    rawQuery,
    body,
    base,
    account,
    identity,
    switches,
    clock,
    operations,
    credentials,
    ...own,
  };
  return route.handle(call);
}
