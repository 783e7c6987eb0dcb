import { validateHeaderName, validateHeaderValue } from 'node:http';
import { matches, type Pattern, parsePattern } from '../routing/pattern.ts';

/** Null removes a header of the response. */
type FaultHeaders = Readonly<Record<string, string | readonly string[] | null>>;

export type Fault =
  /** Default body: Laravel's text for the status. */
  | { readonly kind: 'status'; readonly status: number; readonly headers?: FaultHeaders; readonly body?: string }
  /** Closes the connection with a TCP reset: before the response, or after its headers and a part of its body. */
  | { readonly kind: 'reset'; readonly when: 'before' | 'after' }
  /** Sends nothing; or sends the headers and a part of the body, and then nothing. */
  | { readonly kind: 'stall'; readonly when: 'before' | 'body' }
  /** Announces more bytes than it sends, by Content-Length or by a missing last chunk. */
  | { readonly kind: 'truncate'; readonly framing: 'length' | 'chunked' }
  /** Sends the body in pieces with pauses between them. */
  | { readonly kind: 'drip'; readonly pieces: number; readonly pauseMs: number }
  /** Sends bytes that are not HTTP, and closes the connection. */
  | { readonly kind: 'garbage'; readonly bytes?: string }
  /** The right response with additional headers, such as Set-Cookie. */
  | { readonly kind: 'headers'; readonly headers: FaultHeaders }
  /** The right response, later. */
  | { readonly kind: 'delay'; readonly ms: number };

/**
 * How far a request gets before the fault.
 * - ingress: not authenticated, not counted, not executed
 * - application: authenticated and counted, not executed
 * - response: also executed (a flow is started); only the response is wrong
 */
export type Stage = 'ingress' | 'application' | 'response';

export interface FaultRule {
  /** `GET /api/v1/**`. */
  readonly match: string;
  readonly fault: Fault;
  /** Default: until cleared. */
  readonly times?: number;
  /** Default: ingress for statuses that precede the counter, response for headers and delay, else application. */
  readonly where?: Stage;
}

interface Armed {
  readonly pattern: Pattern;
  readonly fault: Fault;
  readonly where: Stage;
  left: number;
}

/** 401, 405 and 413 precede the counter in the application; gateways in front of it send 429 and 502 to 504. */
const BEFORE_THE_COUNTER: ReadonlySet<number> = new Set([401, 405, 413, 429, 502, 503, 504]);

export class Faults {
  #armed: Armed[] = [];

  /** Throws a TypeError that names the error in the rule. */
  arm(rule: FaultRule): void {
    const parsed = parsePattern(String(rule.match));
    if (!parsed.ok) throw new TypeError(`match ${parsed.reason}`);
    checkFault(rule.fault);
    const { fault, times = Number.POSITIVE_INFINITY, where = stageOf(rule.fault) } = rule;
    if (!(times >= 1)) throw new TypeError('times must be a number from 1');
    if (!['ingress', 'application', 'response'].includes(where)) {
      throw new TypeError('where must be ingress, application or response');
    }
    if ((fault.kind === 'headers' || fault.kind === 'delay') && where !== 'response') {
      throw new TypeError(`the fault ${fault.kind} needs where: response`);
    }
    this.#armed.push({ pattern: parsed.pattern, fault, where, left: times });
  }

  clear(): void {
    this.#armed = [];
  }

  /** Takes the fault for a request at this stage. */
  next(where: Stage, method: string, segments: readonly string[]): Fault | null {
    if (this.#armed.length === 0) return null;
    const armed = this.#armed.find((each) => each.where === where && matches(each.pattern, method, segments));
    if (armed === undefined) return null;
    armed.left -= 1;
    if (armed.left <= 0) this.#armed = this.#armed.filter((each) => each !== armed);
    return armed.fault;
  }
}

function stageOf(fault: Fault): Stage {
  if (fault.kind === 'headers' || fault.kind === 'delay') return 'response';
  return fault.kind === 'status' && BEFORE_THE_COUNTER.has(fault.status) ? 'ingress' : 'application';
}

/** Rules also come through the control endpoint: a malformed rule must fail there, not during a response. */
function checkFault(fault: Fault | undefined): void {
  const need = (holds: boolean, text: string): void => {
    if (!holds) throw new TypeError(`fault ${fault?.kind}: ${text}`);
  };
  switch (fault?.kind) {
    case 'status':
      need(Number.isInteger(fault.status) && fault.status >= 200 && fault.status <= 599, 'status must be 200 to 599');
      need(fault.body === undefined || typeof fault.body === 'string', 'body must be a string');
      checkHeaders(fault.headers ?? {});
      return;
    case 'reset':
      need(fault.when === 'before' || fault.when === 'after', 'when must be before or after');
      return;
    case 'stall':
      need(fault.when === 'before' || fault.when === 'body', 'when must be before or body');
      return;
    case 'truncate':
      need(fault.framing === 'length' || fault.framing === 'chunked', 'framing must be length or chunked');
      return;
    case 'drip':
      need(Number.isInteger(fault.pieces) && fault.pieces >= 1, 'pieces must be a whole number from 1');
      need(fault.pauseMs >= 0, 'pauseMs must be a number from 0');
      return;
    case 'garbage':
      need(fault.bytes === undefined || typeof fault.bytes === 'string', 'bytes must be a string');
      return;
    case 'headers':
      need(typeof fault.headers === 'object' && fault.headers !== null, 'headers must be an object');
      checkHeaders(fault.headers);
      return;
    case 'delay':
      need(fault.ms >= 0, 'ms must be a number from 0');
      return;
    default:
      throw new TypeError('fault must have a kind: status, reset, stall, truncate, drip, garbage, headers or delay');
  }
}

function checkHeaders(headers: FaultHeaders): void {
  for (const [name, values] of Object.entries(headers)) {
    validateHeaderName(name);
    for (const value of values === null ? [] : [values].flat()) validateHeaderValue(name, value);
  }
}

/** A flat header list; the fault's headers replace headers of the same name. */
export function withHeaders(list: readonly string[], headers: FaultHeaders): string[] {
  const names = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  const merged: string[] = [];
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] as string;
    if (!names.has(name.toLowerCase())) merged.push(name, list[i + 1] as string);
  }
  for (const [name, values] of Object.entries(headers)) {
    for (const value of values === null ? [] : [values].flat()) merged.push(name, value);
  }
  return merged;
}
