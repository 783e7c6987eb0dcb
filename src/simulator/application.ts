import type { Clock } from '../clock.ts';
import type { Credentials, Identity } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { Fault, Faults } from './faults.ts';
import { userOf } from './identity.ts';
import type { Recorder } from './record.ts';
import { message, type Result } from './result.ts';
import type { Call, Router, SimulatedRoute } from './router.ts';
import type { Runs } from './runs.ts';
import type { Switches } from './switches.ts';
import type { Throttle } from './throttle.ts';

/** POST data above this is refused, as documented: 8 MB as PHP reads `8M`. */
export const LARGEST_BODY = 8 * 1024 * 1024;

/** A request as the application sees it: whole, with its body. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly segments: readonly string[];
  readonly rawQuery: string;
  readonly authorization: string | undefined;
  readonly contentType: string | undefined;
  readonly body: Buffer;
  /** Of the body; more than `body` has where it is too large. */
  readonly bodyBytes: number;
  readonly base: string;
}

/** What the record says of a request. */
export interface Marks {
  account: string | null;
  credential: string | null;
  counted: boolean;
  countedAt: number | null;
}

export interface Decision {
  readonly result: Result;
  /** Limit fields, and Allow. */
  readonly headers: readonly string[];
  readonly fault: Fault | null;
}

export interface World {
  readonly router: Router;
  readonly credentials: Credentials;
  readonly throttle: Throttle;
  readonly faults: Faults;
  readonly recorder: Recorder;
  readonly switches: Switches;
  readonly clock: Clock;
  readonly accounts: ReadonlyMap<string, { readonly data: Dataset; readonly runs: Runs }>;
  limitOf(account: string): number;
}

const NONE: readonly string[] = [];
const plain = (result: Result, headers: readonly string[] = NONE): Decision => ({ result, headers, fault: null });

/**
 * The order of the Laravel application, on which the gateway's count depends:
 *
 *     size, route, method    413, 404, 405: not counted
 *     authentication         401: not counted, no limit headers
 *     throttle               429: not counted
 *     model, authorisation   404, 403, 422, 500: counted
 */
export function decide(world: World, request: Request, marks: Marks): Decision {
  const { method, path, segments } = request;
  if (request.bodyBytes > LARGEST_BODY) return plain(message(413, 'The POST data is too large.'));
  const found = world.router.find(method, segments);
  const name = path.replace(/^\/|\/$/g, '');
  if (found.kind === 'unknown') return plain(message(404, `The route ${name} could not be found.`));
  if (found.kind === 'method') {
    const allow = found.allow.join(', ');
    const text = `The ${method} method is not supported for route ${name}. Supported methods: ${allow}.`;
    return plain(message(405, text), ['Allow', allow]);
  }
  const entry = enter(world, found.route, request, marks);
  if (entry.kind === 'refused') return entry.decision;

  const fault = world.faults.next('application', method, segments);
  if (fault !== null) return { result: message(500, 'Server Error'), headers: entry.headers, fault };
  const result = perform(world, found.route, request, entry.identity, entry.account);
  return { result, headers: entry.headers, fault: world.faults.next('answer', method, segments) };
}

type Entry =
  | { kind: 'in'; identity: Identity | null; account: string; headers: readonly string[] }
  | { kind: 'refused'; decision: Decision };

/** Authentication, then throttle. */
function enter(world: World, route: SimulatedRoute, request: Request, marks: Marks): Entry {
  const { credentials, switches, throttle, recorder } = world;
  const [first = ''] = world.accounts.keys();
  if (route.access === 'open' || (route.access === 'login' && !switches.countLogins)) {
    return { kind: 'in', identity: null, account: first, headers: NONE };
  }
  const identity = route.access === 'credential' ? credentials.identify(request.authorization) : null;
  if (route.access === 'credential' && identity === null) {
    recorder.unauthenticated();
    return { kind: 'refused', decision: plain(message(401, 'Unauthenticated.')) };
  }
  const account = identity?.account ?? credentials.accountOf(userOf(request.body)) ?? first;
  marks.account = account;
  marks.credential = identity?.credential ?? null;
  // Ids of keys are the account's own: two accounts may each have a "primary".
  const scope = switches.scope === 'account' ? account : `${account} ${marks.credential ?? 'login'}`;
  const verdict = throttle.hit(scope, world.limitOf(account));
  if (verdict.refused) {
    recorder.throttled(account);
    return { kind: 'refused', decision: plain(message(429, 'Too Many Attempts.'), verdict.headers) };
  }
  marks.counted = true;
  marks.countedAt = world.clock.monotonic();
  recorder.counted(account, marks.countedAt);
  return { kind: 'in', identity, account, headers: verdict.headers };
}

function perform(
  world: World,
  route: SimulatedRoute,
  request: Request,
  identity: Identity | null,
  account: string,
): Result {
  const own = world.accounts.get(account);
  if (own === undefined) throw new Error(`no account ${account}`);
  const { body, contentType, segments, rawQuery, base } = request;
  if (world.switches.strictContentType && body.length > 0 && !contentType?.includes('json')) {
    return message(415, 'The content type is not supported.');
  }
  own.runs.settle();
  const call: Call = { segments, rawQuery, body, base, account, identity, ...own };
  return route.handle(call);
}
