import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { splitPath } from '../routing/pattern.ts';
import { type Decision, MAX_BODY_BYTES, type Request, type SimulatorState } from './application.ts';
import { type Fault, withHeaders } from './faults.ts';
import { draw } from './latency.ts';
import { playFault } from './play-fault.ts';
import type { Arrival } from './record.ts';
import { message } from './result.ts';
import { sendResponse } from './send-response.ts';
import { Upload } from './upload.ts';

const CONTROL = '/_simulator/';
const COMMON = ['Cache-Control', 'no-cache, private'];

export interface ServerOptions {
  readonly state: SimulatorState;
  /** Decides a complete request, and notes in its arrival what it was counted for. */
  readonly decide: (request: Request, arrival: Arrival) => Decision;
  readonly random: () => number;
  readonly keepAliveTimeoutMs: number;
  /** Null: `/_simulator/…` is a path like any other. */
  readonly control: ((incoming: IncomingMessage, outgoing: ServerResponse) => void) | null;
}

interface HttpExchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly arrival: Arrival;
}

/**
 * A request travels (arrival latency), arrives and is recorded, is read to its end, and is decided and counted. Then its
 * response travels (response latency). `stop` cancels requests and responses that still travel.
 */
export function createApiServer(options: ServerOptions): { server: Server; stop: () => void } {
  const { state, decide, random, control } = options;
  const { clock, switches } = state;
  const travelling = new Set<() => void>();

  /** Runs at once for 0 ms, since a timer of 0 ms takes a millisecond. Returns the cancellation. */
  const travel = (ms: number, run: () => void): (() => void) => {
    if (ms <= 0) {
      run();
      return () => {};
    }
    const cancel = (): void => {
      travelling.delete(cancel);
      cancelTimer();
    };
    const cancelTimer = clock.after(ms, () => {
      travelling.delete(cancel);
      run();
    });
    travelling.add(cancel);
    return cancel;
  };

  const serve = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    if (control !== null && incoming.url?.startsWith(CONTROL)) {
      control(incoming, outgoing);
      return;
    }
    const upload = new Upload(incoming, MAX_BODY_BYTES);
    // Not cancelled when the caller disconnects: bytes on the wire arrive, and the request counts.
    travel(draw(switches.arrivalLatency, random), () => arrive({ incoming, outgoing, upload }));
  };

  const arrive = ({ incoming, outgoing, upload }: Omit<HttpExchange, 'arrival'> & { upload: Upload }): void => {
    const arrival = newArrival(state, incoming);
    const context = { incoming, outgoing, arrival };
    state.recorder.add(arrival);
    noteEnd(state, context, upload);
    const [path, rawQuery] = cut(arrival.target);
    const segments = segmentsOf(path);
    const atIngress = state.faults.next('ingress', arrival.method, segments);
    if (atIngress !== null) {
      reply(context, { result: message(500, 'Server Error'), headers: [], fault: atIngress }, []);
      return;
    }
    upload.onComplete(() => {
      const decision = attempt(() => {
        const request = requestOf(state, arrival, incoming, upload, { path, rawQuery, segments });
        return decide(request, arrival);
      });
      const delay = decision.fault?.kind === 'delay' ? decision.fault.ms : 0;
      const ms = draw(switches.responseLatency, random) + delay;
      const cancel = travel(ms, () => reply(context, decision, COMMON));
      if (ms > 0) outgoing.once('close', cancel);
    });
  };

  const reply = (context: HttpExchange, { result, headers, fault }: Decision, common: readonly string[]): void => {
    const all = [...common, ...headers];
    if (isReplacing(fault)) {
      if (!context.outgoing.destroyed) playFault(fault, { ...context, headers: all, clock });
      return;
    }
    if (fault !== null) context.arrival.fault = fault.kind;
    sendResponse(context, result, fault?.kind === 'headers' ? withHeaders(all, fault.headers) : all, switches);
  };

  const server = createServer({ keepAliveTimeout: options.keepAliveTimeoutMs }, serve);
  return {
    server,
    stop: () => {
      for (const cancel of travelling) cancel();
    },
  };
}

function newArrival({ clock }: SimulatorState, incoming: IncomingMessage): Arrival {
  return {
    at: clock.now(),
    monotonic: clock.monotonic(),
    method: incoming.method ?? '',
    target: incoming.url ?? '',
    headers: incoming.rawHeaders,
    bodyBytes: 0,
    bodySha256: null,
    account: null,
    credential: null,
    counted: false,
    countedAt: null,
    status: null,
    fault: null,
    aborted: false,
    finishedAt: null,
  };
}

/** Records how the request ended, also if the caller disconnected while the request travelled. */
function noteEnd({ clock }: SimulatorState, { outgoing, arrival }: HttpExchange, upload: Upload): void {
  const end = (): void => {
    arrival.bodyBytes = upload.bytes;
    arrival.finishedAt = clock.now();
    // These faults end the connection; the caller did not.
    const ours = arrival.fault === 'reset' || arrival.fault === 'truncate' || arrival.fault === 'garbage';
    arrival.aborted = !ours && !outgoing.writableFinished;
  };
  if (outgoing.destroyed) end();
  else outgoing.once('close', end);
}

function requestOf(
  { switches }: SimulatorState,
  arrival: Arrival,
  incoming: IncomingMessage,
  upload: Upload,
  target: { path: string; rawQuery: string; segments: readonly string[] },
): Request {
  arrival.bodyBytes = upload.bytes;
  arrival.bodySha256 = upload.sha256;
  return {
    ...target,
    method: arrival.method,
    authorization: incoming.headers.authorization,
    contentType: incoming.headers['content-type'],
    headers: incoming.headers,
    body: upload.body(),
    bodyBytes: upload.bytes,
    base: switches.publicBase ?? `http://${incoming.headers.host ?? 'localhost'}`,
  };
}

/** An error in the simulator must not end the process of the tests. */
function attempt(run: () => Decision): Decision {
  try {
    return run();
  } catch {
    return { result: message(500, 'Server Error'), headers: [], fault: null };
  }
}

function isReplacing(fault: Fault | null): fault is Exclude<Fault, { kind: 'headers' | 'delay' }> {
  return fault !== null && fault.kind !== 'headers' && fault.kind !== 'delay';
}

function cut(target: string): [path: string, rawQuery: string] {
  const mark = target.indexOf('?');
  return mark === -1 ? [target, ''] : [target.slice(0, mark), target.slice(mark + 1)];
}

function segmentsOf(path: string): string[] {
  const segments = splitPath(path);
  return path.includes('%') ? segments.map(decoded) : segments;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
