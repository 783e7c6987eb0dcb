import type { IncomingMessage, ServerResponse } from 'node:http';
import { matches, type Pattern, parsePattern, splitPath } from '../routing/pattern.ts';

/** What goes wrong. */
export type Fault =
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Close the connection without an answer, or after the headers. */
  | { readonly kind: 'reset'; readonly when: 'before' | 'after' }
  /** Never answer; or send the headers and half a body, and then nothing. */
  | { readonly kind: 'stall'; readonly when: 'before' | 'body' }
  /** Promise more bytes than are sent, by Content-Length or by a missing last chunk. */
  | { readonly kind: 'truncate'; readonly framing: 'length' | 'chunked' }
  /** The body comes in pieces with pauses between. */
  | { readonly kind: 'drip'; readonly pieces: number; readonly pauseMs: number }
  /** Bytes that are no HTTP. */
  | { readonly kind: 'garbage' };

export interface FaultRule {
  /** `GET /api/v1/**`. */
  readonly match: string;
  readonly fault: Fault;
  /** How often; default: until cleared. */
  readonly times?: number;
}

interface Armed {
  readonly pattern: Pattern;
  readonly fault: Fault;
  left: number;
}

export class Faults {
  #armed: Armed[] = [];

  arm(rule: FaultRule): void {
    const parsed = parsePattern(rule.match);
    if (!parsed.ok) throw new TypeError(parsed.reason);
    this.#armed.push({ pattern: parsed.pattern, fault: rule.fault, left: rule.times ?? Number.POSITIVE_INFINITY });
  }

  clear(): void {
    this.#armed = [];
  }

  /** The fault for a request, which is used up by that. */
  next(method: string, path: string): Fault | null {
    if (this.#armed.length === 0) return null;
    const segments = splitPath(path);
    const armed = this.#armed.find((each) => matches(each.pattern, method, segments));
    if (armed === undefined) return null;
    armed.left -= 1;
    if (armed.left <= 0) this.#armed = this.#armed.filter((each) => each !== armed);
    return armed.fault;
  }
}

const BODY = JSON.stringify({ data: [{ id: 1, text: 'x'.repeat(2000) }] });

/** Carries a fault out on the wire. Timers end with the connection. */
export function inflict(fault: Fault, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const json = { 'Content-Type': 'application/json' };
  switch (fault.kind) {
    case 'status': {
      outgoing.writeHead(fault.status, { ...json, ...fault.headers });
      outgoing.end(fault.body ?? '{"message":"Server Error"}');
      return;
    }
    case 'reset':
      if (fault.when === 'before') incoming.socket.resetAndDestroy();
      else {
        outgoing.writeHead(200, { ...json, 'Content-Length': BODY.length });
        outgoing.write(BODY.slice(0, 100), () => incoming.socket.resetAndDestroy());
      }
      return;
    case 'stall':
      if (fault.when === 'body') {
        outgoing.writeHead(200, { ...json, 'Content-Length': BODY.length });
        outgoing.write(BODY.slice(0, 100));
      }
      return;
    case 'truncate': {
      const length: Record<string, number> = fault.framing === 'length' ? { 'Content-Length': BODY.length } : {};
      outgoing.writeHead(200, { ...json, ...length });
      outgoing.write(BODY.slice(0, 100), () => incoming.socket.end());
      return;
    }
    case 'drip':
      drip(outgoing, fault.pieces, fault.pauseMs);
      return;
    case 'garbage':
      incoming.socket.end('NOT HTTP AT ALL\r\n\r\n');
  }
}

function drip(outgoing: ServerResponse, pieces: number, pauseMs: number): void {
  outgoing.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': BODY.length });
  const size = Math.ceil(BODY.length / pieces);
  let at = 0;
  const next = (): void => {
    outgoing.write(BODY.slice(at, at + size));
    at += size;
    if (at < BODY.length) return;
    clearInterval(timer);
    outgoing.end();
  };
  const timer = setInterval(next, pauseMs);
  outgoing.once('close', () => clearInterval(timer));
  next();
}
