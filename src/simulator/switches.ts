import { type Latency, latencyProblem } from './latency.ts';
import { limitProblem, operationsProblem, type Tier, tierProblem } from './terms.ts';

/** The limit headers of counted responses. For a single response or one route, see the fault `headers`. */
type LimitHeaders =
  /** The headers come from the counter that accepts and rejects. */
  | { readonly kind: 'own' }
  /** No `X-RateLimit-…`; a 429 still has its Retry-After, unless `bareThrottle`. */
  | { readonly kind: 'none' }
  /**
   * Accepted responses show another counter: its own limit, and what remains of it. It counts the same requests in windows
   * of the same length, and rejects none. A 429 has the headers of the counter that rejects.
   */
  | { readonly kind: 'foreign'; readonly limit: number };

/** Behaviour that can change while the simulator runs. Where the documentation is silent, there is a switch. */
export interface Switches {
  /** Requests in a window, for accounts that have no limit of their own. Default 240. */
  limit: number;
  /** Operations in a month, for accounts that have no tier of their own. Default growth. */
  tier: Tier;
  /** Operations in a month in place of those of the tier. Default null: those of the tier. */
  operations: number | null;
  /** IANA time zone of the calendar month; the documentation does not say. Default UTC. */
  operationsTimeZone: string;
  /**
   * Starts and retries above the operations of the month: accepted (which may be charged, or only notified), or rejected with
   * a status; the documentation does not say. The throttle counts a rejected request. Default accept.
   */
  operationsUsedUp: 'accept' | 402 | 403 | 429;
  /** Connector requests of each run, with pages and failures: operations besides the start. Default 0. */
  connectorRequests: number;
  /** A retry of a run is an operation, like a start; the documentation does not say. Default false. */
  countRetries: boolean;
  /** Default 60,000. */
  windowMs: number;
  /** Requests are counted by account or by credential. Default account. */
  scope: 'account' | 'key';
  /** Logins are counted too. Default false. */
  countLogins: boolean;
  /** A 429 has no limit headers, like one of an ingress. Default false. */
  bareThrottle: boolean;
  /** Default own. */
  limitHeaders: LimitHeaders;
  /** `Bearer <api key>` is accepted. Default false. */
  bearerApiKey: boolean;
  /** Status of a login with a wrong password; the documentation does not say. Default 401. */
  loginFailure: 401 | 422;
  /** Items are flat, or `{id, type, attributes}`. Default flat. */
  shape: 'flat' | 'attributes';
  /** `per_page` above 100 counts as 100, is accepted as it is, or gets 422. Default clamp. */
  largePages: 'clamp' | 'accept' | 'refuse';
  /** Status of a create: 201 as clients expect, or 200 as documented. Default 201. */
  createStatus: 200 | 201;
  /** A 422 has texts for each field, or objects `{"rule": "text"}`: the documentation has both. Default texts. */
  validationErrors: 'texts' | 'rules';
  /** Errors are HTML pages without `Accept: application/json`. Default true. */
  htmlErrors: boolean;
  /** All other responses are HTML pages too without it. Default false. */
  htmlResponses: boolean;
  /** A body without a JSON Content-Type gets 415. Default false. */
  strictContentType: boolean;
  /**
   * JSON responses name their request: `"echo": {"target": …, "bodySha256": …}`. It reveals a response that reached the wrong
   * caller. Default false.
   */
  echo: boolean;
  /** The start of links. Default null: `http://` and the Host of the request. */
  publicBase: string | null;
  /** From the caller to the counter. A client disconnect does not stop a request that travels. Default none. */
  arrivalLatency: Latency;
  /** From the counter to the response. Default none. */
  responseLatency: Latency;
  /** Life of the tokens issued from now on. Default 86,400. */
  tokenLifeSeconds: number;
  /** Duration of runs that start from now on. Default 5,000. */
  runMs: number;
  /** Interval at which queued runs are picked. 0: each run starts at once. Default 5,000. */
  pickMs: number;
  /** Runs at the same time, for all accounts. Default null: those of the tier. */
  concurrentRuns: number | null;
  /** A start by `manual` is queued like one by `start`; the documentation does not say. Default true. */
  queueManual: boolean;
  /** How long a run log exists; afterwards 404. Logs that were there at the start stay. Default 7 days. */
  runLogsMs: number;
  /** The same of a payload. Default 72 h. */
  payloadsMs: number;
}

const HOUR_MS = 3_600_000;
const NONE: Latency = { kind: 'fixed', ms: 0 };

export const DEFAULT_SWITCHES: Readonly<Switches> = {
  limit: 240,
  tier: 'growth',
  operations: null,
  operationsTimeZone: 'UTC',
  operationsUsedUp: 'accept',
  connectorRequests: 0,
  countRetries: false,
  windowMs: 60_000,
  scope: 'account',
  countLogins: false,
  bareThrottle: false,
  limitHeaders: { kind: 'own' },
  bearerApiKey: false,
  loginFailure: 401,
  shape: 'flat',
  largePages: 'clamp',
  createStatus: 201,
  validationErrors: 'texts',
  htmlErrors: true,
  htmlResponses: false,
  strictContentType: false,
  echo: false,
  publicBase: null,
  arrivalLatency: NONE,
  responseLatency: NONE,
  tokenLifeSeconds: 86_400,
  runMs: 5_000,
  pickMs: 5_000,
  concurrentRuns: null,
  queueManual: true,
  runLogsMs: 7 * 24 * HOUR_MS,
  payloadsMs: 72 * HOUR_MS,
};

/** Describes the error in a value; null if it is valid. */
type Check = (value: unknown) => string | null;

const atLeast =
  (least: number): Check =>
  (value) =>
    typeof value === 'number' && Number.isFinite(value) && value >= least ? null : `must be a number from ${least}`;
const oneOf =
  (...known: readonly unknown[]): Check =>
  (value) =>
    known.includes(value) ? null : `must be one of ${known.join(', ')}`;
const yesOrNo: Check = (value) => (typeof value === 'boolean' ? null : 'must be true or false');

const CHECKS: Readonly<Record<keyof Switches, Check>> = {
  limit: limitProblem,
  tier: tierProblem,
  operations: (value) => (value === null ? null : operationsProblem(value)),
  operationsTimeZone: timeZoneProblem,
  operationsUsedUp: oneOf('accept', 402, 403, 429),
  connectorRequests: operationsProblem,
  countRetries: yesOrNo,
  windowMs: atLeast(1),
  scope: oneOf('account', 'key'),
  countLogins: yesOrNo,
  bareThrottle: yesOrNo,
  limitHeaders: limitHeadersProblem,
  bearerApiKey: yesOrNo,
  loginFailure: oneOf(401, 422),
  shape: oneOf('flat', 'attributes'),
  largePages: oneOf('clamp', 'accept', 'refuse'),
  createStatus: oneOf(200, 201),
  validationErrors: oneOf('texts', 'rules'),
  htmlErrors: yesOrNo,
  htmlResponses: yesOrNo,
  strictContentType: yesOrNo,
  echo: yesOrNo,
  publicBase: (value) =>
    value === null || (typeof value === 'string' && URL.canParse(value) && !value.endsWith('/'))
      ? null
      : 'must be a URL without a slash at its end, or null',
  arrivalLatency: latencyProblem,
  responseLatency: latencyProblem,
  tokenLifeSeconds: atLeast(0),
  runMs: atLeast(0),
  pickMs: atLeast(0),
  concurrentRuns: (value) => (value === null ? null : limitProblem(value)),
  queueManual: yesOrNo,
  runLogsMs: atLeast(0),
  payloadsMs: atLeast(0),
};

/** Throws a TypeError that names the wrong switch. */
export function checkedSwitches(given: object): Partial<Switches> {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(CHECKS, name)) throw new TypeError(`there is no switch "${name}"`);
    const fault = CHECKS[name as keyof Switches](value);
    if (fault !== null) throw new TypeError(`switch ${name} ${fault}`);
  }
  return given as Partial<Switches>;
}

function timeZoneProblem(value: unknown): string | null {
  const problem = 'must be an IANA time zone such as Europe/London';
  if (typeof value !== 'string') return problem;
  try {
    new Intl.DateTimeFormat('en', { timeZone: value });
    return null;
  } catch {
    return problem;
  }
}

function limitHeadersProblem(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'must be limit headers such as {"kind":"none"}';
  const { kind, limit } = value as Record<string, unknown>;
  if (kind === 'own' || kind === 'none') return null;
  if (kind !== 'foreign') return 'kind must be one of own, none, foreign';
  const problem = limitProblem(limit);
  return problem === null ? null : `limit ${problem}`;
}
