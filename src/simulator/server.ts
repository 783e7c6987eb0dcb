import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { splitPath } from '../routing/pattern.ts';
import { type Decision, decide, LARGEST_BODY, type Request, type World } from './application.ts';
import { type Fault, withHeaders } from './faults.ts';
import { inflict } from './inflict.ts';
import { draw } from './latency.ts';
import type { Arrival } from './record.ts';
import { message } from './result.ts';
import { send } from './send.ts';
import { Upload } from './upload.ts';

const CONTROL = '/_simulator/';
const COMMON = ['Cache-Control', 'no-cache, private'];

export interface ServerOptions {
  readonly world: World;
  readonly random: () => number;
  readonly keepAliveTimeoutMs: number;
  /** Null: `/_simulator/…` is a path like any other. */
  readonly control: ((incoming: IncomingMessage, outgoing: ServerResponse) => void) | null;
}

interface Exchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly arrival: Arrival;
}

/**
 * The way of a request: it travels (arrival latency), arrives and is recorded, is whole (body), is decided and counted,
 * and its answer travels (answer latency). `stop` cancels what is still travelling.
 */
export function createApiServer(options: ServerOptions): { server: Server; stop: () => void } {
  const { world, random, control } = options;
  const { clock, switches } = world;
  const travelling = new Set<() => void>();

  /** At once where there is nothing to wait for: a timer of 0 ms is a millisecond. Returns the cancellation. */
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
    const upload = new Upload(incoming, LARGEST_BODY);
    // Not cancelled when the caller leaves: what is on the wire arrives, and counts.
    travel(draw(switches.arrivalLatency, random), () => arrive({ incoming, outgoing, upload }));
  };

  const arrive = ({ incoming, outgoing, upload }: Omit<Exchange, 'arrival'> & { upload: Upload }): void => {
    const arrival = newArrival(world, incoming);
    const context = { incoming, outgoing, arrival };
    world.recorder.add(arrival);
    noteEnd(world, context, upload);
    const [path, rawQuery] = cut(arrival.target);
    const segments = segmentsOf(path);
    const atIngress = world.faults.next('ingress', arrival.method, segments);
    if (atIngress !== null) {
      reply(context, { result: message(500, 'Server Error'), headers: [], fault: atIngress }, []);
      return;
    }
    upload.onComplete(() => {
      const decision = attempt(() => {
        const request = requestOf(world, arrival, incoming, upload, { path, rawQuery, segments });
        return decide(world, request, arrival);
      });
      const delay = decision.fault?.kind === 'delay' ? decision.fault.ms : 0;
      const ms = draw(switches.answerLatency, random) + delay;
      const cancel = travel(ms, () => reply(context, decision, COMMON));
      if (ms > 0) outgoing.once('close', cancel);
    });
  };

  const reply = (context: Exchange, { result, headers, fault }: Decision, common: readonly string[]): void => {
    const all = [...common, ...headers];
    if (isReplacing(fault)) {
      if (!context.outgoing.destroyed) inflict(fault, { ...context, headers: all, clock });
      return;
    }
    if (fault !== null) context.arrival.fault = fault.kind;
    send(context, result, fault?.kind === 'headers' ? withHeaders(all, fault.headers) : all, switches);
  };

  const server = createServer({ keepAliveTimeout: options.keepAliveTimeoutMs }, serve);
  return {
    server,
    stop: () => {
      for (const cancel of travelling) cancel();
    },
  };
}

function newArrival({ clock }: World, incoming: IncomingMessage): Arrival {
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

/** Writes into the record how the request ended; also where the caller left while the request was on its way. */
function noteEnd({ clock }: World, { outgoing, arrival }: Exchange, upload: Upload): void {
  const end = (): void => {
    arrival.bodyBytes = upload.bytes;
    arrival.finishedAt = clock.now();
    // Faults but a stall or a slow body end the connection themselves.
    const ours = arrival.fault === 'reset' || arrival.fault === 'truncate' || arrival.fault === 'garbage';
    arrival.aborted = !ours && !outgoing.writableFinished;
  };
  if (outgoing.destroyed) end();
  else outgoing.once('close', end);
}

function requestOf(
  { switches }: World,
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
    body: upload.body(),
    bodyBytes: upload.bytes,
    base: switches.publicBase ?? `http://${incoming.headers.host ?? 'localhost'}`,
  };
}

/** A mistake of the simulator's must not end the process that tests share with it. */
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
