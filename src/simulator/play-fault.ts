import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import { type Fault, withHeaders } from './faults.ts';
import type { Arrival } from './record.ts';
import { laravelJson } from './result.ts';

/** The request that a fault hits. */
interface FaultTarget {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly arrival: Arrival;
  /** Headers of the response so far; empty at the ingress. */
  readonly headers: readonly string[];
  readonly clock: Clock;
}

/** Faults that replace the response. */
export type Replacing = Exclude<Fault, { kind: 'headers' | 'delay' }>;

const BODY = JSON.stringify({ data: [{ id: 1, text: 'x'.repeat(2000) }] });
const PIECE = BODY.slice(0, 100);
const WITH_LENGTH = ['Content-Length', String(BODY.length)];

const TEXTS: Readonly<Record<number, string>> = {
  401: 'Unauthenticated.',
  403: 'This action is unauthorized.',
  413: 'The POST data is too large.',
  429: 'Too Many Attempts.',
};

/** Writes the fault to the connection. Its timers end with the connection. */
export function playFault(fault: Replacing, scene: FaultTarget): void {
  const { incoming, outgoing, arrival } = scene;
  arrival.fault = fault.kind;
  switch (fault.kind) {
    case 'status':
      answerStatus(fault, scene);
      return;
    case 'reset':
      if (fault.when === 'before') incoming.socket.resetAndDestroy();
      else {
        begin(scene, WITH_LENGTH);
        outgoing.write(PIECE, () => incoming.socket.resetAndDestroy());
      }
      return;
    case 'stall':
      if (fault.when === 'body') {
        begin(scene, WITH_LENGTH);
        outgoing.write(PIECE);
      }
      return;
    case 'truncate':
      begin(scene, fault.framing === 'length' ? WITH_LENGTH : []);
      outgoing.write(PIECE, () => incoming.socket.end());
      return;
    case 'drip':
      drip(fault.pieces, fault.pauseMs, scene);
      return;
    case 'garbage':
      incoming.socket.end(Buffer.from(fault.bytes ?? 'NOT HTTP AT ALL\r\n\r\n', 'latin1'));
  }
}

function begin({ outgoing, arrival, headers }: FaultTarget, framing: readonly string[]): void {
  arrival.status = 200;
  outgoing.writeHead(200, [...headers, 'Content-Type', 'application/json', ...framing]);
}

function answerStatus(
  fault: Extract<Fault, { kind: 'status' }>,
  { incoming, outgoing, arrival, headers }: FaultTarget,
): void {
  const body = fault.body ?? laravelJson({ message: TEXTS[fault.status] ?? 'Server Error' });
  const bodiless = fault.status === 204 || fault.status === 304;
  const framing = bodiless ? [] : ['Content-Length', String(Buffer.byteLength(body))];
  const list = withHeaders([...headers, 'Content-Type', 'application/json', ...framing], fault.headers ?? {});
  arrival.status = fault.status;
  outgoing.writeHead(fault.status, list);
  outgoing.end(bodiless || incoming.method === 'HEAD' ? undefined : body);
}

function drip(pieces: number, pauseMs: number, scene: FaultTarget): void {
  const { outgoing, clock } = scene;
  begin(scene, WITH_LENGTH);
  const size = Math.ceil(BODY.length / pieces);
  let cancel = (): void => {};
  outgoing.once('close', () => cancel());
  const send = (at: number): void => {
    outgoing.write(BODY.slice(at, at + size));
    if (at + size >= BODY.length) outgoing.end();
    else cancel = clock.after(pauseMs, () => send(at + size));
  };
  send(0);
}
