import { faultOfLatency, type Latency } from './latency.ts';

/** Behaviour that may be switched while it runs. What the documentation leaves open is a switch here. */
export interface Switches {
  /** Requests in a window, for accounts that have no limit of their own. Default 240. */
  limit: number;
  /** Default 60,000. */
  windowMs: number;
  /** Whose requests are counted together: the account's, or each credential's. Default account. */
  scope: 'account' | 'key';
  /** Whether logins are counted as well. Default false. */
  countLogins: boolean;
  /** 429 as an ingress sends it, with none of the limit headers. Default false. */
  bareThrottle: boolean;
  /** Whether `Bearer <api key>` is taken for the key. Default false. */
  bearerApiKey: boolean;
  /** Status of a login with a wrong password; the documentation does not say. Default 401. */
  loginFailure: 401 | 422;
  /** Items flat, or as `{id, type, attributes}`. Default flat. */
  shape: 'flat' | 'attributes';
  /** `per_page` above 100: taken as 100, or refused with 422. Default clamp. */
  largePages: 'clamp' | 'refuse';
  /** Without `Accept: application/json` errors are HTML pages. Default true. */
  htmlErrors: boolean;
  /** Without it all other answers are HTML pages too. Default false. */
  htmlAnswers: boolean;
  /** A body on a write that is not declared as JSON gets 415. Default false. */
  strictContentType: boolean;
  /**
   * JSON answers say what they answer: `"echo": {"target": …, "bodySha256": …}`, so that one which reached the wrong caller
   * shows. Default false.
   */
  echo: boolean;
  /** What links begin with. Default null: `http://` and the Host that was asked. */
  publicBase: string | null;
  /** From the caller to the counter. A caller who leaves meanwhile does not stop what is on its way. Default none. */
  arrivalLatency: Latency;
  /** From the counter to the answer. Default none. */
  answerLatency: Latency;
  /** Life of the tokens issued from now on. Default 86,400. */
  tokenLifeSeconds: number;
  /** How long a run that starts now is under way. Default 5,000. */
  runMs: number;
}

const NONE: Latency = { kind: 'fixed', ms: 0 };

export const DEFAULT_SWITCHES: Readonly<Switches> = {
  limit: 240,
  windowMs: 60_000,
  scope: 'account',
  countLogins: false,
  bareThrottle: false,
  bearerApiKey: false,
  loginFailure: 401,
  shape: 'flat',
  largePages: 'clamp',
  htmlErrors: true,
  htmlAnswers: false,
  strictContentType: false,
  echo: false,
  publicBase: null,
  arrivalLatency: NONE,
  answerLatency: NONE,
  tokenLifeSeconds: 86_400,
  runMs: 5_000,
};

/** What is wrong with a value, or null. */
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
  limit: (value) => (Number.isSafeInteger(value) && Number(value) >= 1 ? null : 'must be a whole number from 1'),
  windowMs: atLeast(1),
  scope: oneOf('account', 'key'),
  countLogins: yesOrNo,
  bareThrottle: yesOrNo,
  bearerApiKey: yesOrNo,
  loginFailure: oneOf(401, 422),
  shape: oneOf('flat', 'attributes'),
  largePages: oneOf('clamp', 'refuse'),
  htmlErrors: yesOrNo,
  htmlAnswers: yesOrNo,
  strictContentType: yesOrNo,
  echo: yesOrNo,
  publicBase: (value) =>
    value === null || (typeof value === 'string' && URL.canParse(value) && !value.endsWith('/'))
      ? null
      : 'must be a URL without a slash at its end, or null',
  arrivalLatency: faultOfLatency,
  answerLatency: faultOfLatency,
  tokenLifeSeconds: atLeast(0),
  runMs: atLeast(0),
};

/** Throws a TypeError that names the switch: also a peer of the control endpoint reads it. */
export function checkedSwitches(given: object): Partial<Switches> {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(CHECKS, name)) throw new TypeError(`there is no switch "${name}"`);
    const fault = CHECKS[name as keyof Switches](value);
    if (fault !== null) throw new TypeError(`switch ${name} ${fault}`);
  }
  return given as Partial<Switches>;
}
