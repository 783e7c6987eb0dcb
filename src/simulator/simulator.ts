import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { splitPath } from '../routing/pattern.ts';
import type { Simulator } from './api.ts';
import { handleControl } from './control.ts';
import { Credentials } from './credentials.ts';
import { Dataset } from './dataset.ts';
import { Faults, inflict } from './faults.ts';
import { draw, type SimulatorOptions, type Switches, seededRandom, withDefaults } from './options.ts';
import { laravelJson } from './query.ts';
import { type Arrival, Recorder } from './record.ts';
import { findSimulated, type Result, routesOf } from './routes.ts';
import { Throttle } from './throttle.ts';

/** POST data above this is refused, as documented. */
const LARGEST_BODY = 8 * 1024 * 1024;
const COMMON = ['Cache-Control', 'no-cache, private'];
const ONE_ACCOUNT = 'account';

/**
 * A stand-in for the Patchworks API: hosts core, start and fabric behind one port, told apart by path. Faithful where the
 * gateway depends on it (authentication, throttle, order of checks, errors, paginator), plausible elsewhere.
 */
export async function createSimulator(given: SimulatorOptions = {}): Promise<Simulator> {
  const options = withDefaults(given);
  const { clock, switches } = options;
  const data = new Dataset(options.seed);
  const credentials = new Credentials(options);
  const throttle = new Throttle(clock, switches);
  const recorder = new Recorder(options.recordSize);
  const faults = new Faults();
  const random = seededRandom(options.seed + 1);
  const routes = routesOf({ data, credentials, switches, clock });

  const decide = (arrival: Arrival, incoming: IncomingMessage, body: Buffer): { result: Result; headers: string[] } => {
    const mark = arrival.target.indexOf('?');
    const path = mark === -1 ? arrival.target : arrival.target.slice(0, mark);
    const query = new URLSearchParams(mark === -1 ? '' : arrival.target.slice(mark + 1));
    const segments = splitPath(path).map(safeDecode);
    const error = (status: number, message: string, headers: string[] = []) => ({
      result: { kind: 'json', status, json: laravelJson({ message }) } as const,
      headers,
    });
    if (body.length > LARGEST_BODY) return error(413, 'The POST data is too large.');
    const found = findSimulated(routes, arrival.method, segments);
    if (found.kind === 'unknown') return error(404, `The route ${path.slice(1)} could not be found.`);
    if (found.kind === 'method') {
      const message = `The ${arrival.method} method is not supported for route ${path.slice(1)}.`;
      return error(405, message, ['Allow', found.allow.join(', ')]);
    }
    let headers: string[] = [];
    if (!found.route.open || (switches.countLogins && path.endsWith('/login'))) {
      const identity = found.route.open
        ? { credential: 'login' }
        : credentials.identify(incoming.headers.authorization);
      if (identity === null) {
        recorder.note('unauthenticated');
        return error(401, 'Unauthenticated.');
      }
      arrival.credential = identity.credential;
      const verdict = throttle.hit(switches.scope === 'account' ? ONE_ACCOUNT : identity.credential);
      headers = verdict.headers;
      if (verdict.refused) {
        recorder.note('throttled');
        return error(429, 'Too Many Attempts.', headers);
      }
      arrival.counted = true;
      recorder.note('counted');
    }
    const base = `http://${incoming.headers.host ?? 'localhost'}`;
    return { result: found.route.handle({ path, segments, query, body, base }), headers };
  };

  const serve = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const url = incoming.url ?? '/';
    if (options.control && url.startsWith('/_simulator/')) {
      handleControl(incoming, outgoing, simulator);
      return;
    }
    const cancel = after(draw(switches.arrivalLatency, random), () => arrive(incoming, outgoing));
    outgoing.once('close', cancel);
  };

  const arrive = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const arrival: Arrival = {
      at: clock.now(),
      monotonic: clock.monotonic(),
      method: incoming.method ?? '',
      target: incoming.url ?? '',
      headers: incoming.rawHeaders,
      bodyBytes: 0,
      bodySha256: null,
      credential: null,
      counted: false,
      status: null,
      aborted: false,
      finishedAt: null,
    };
    recorder.add(arrival);
    outgoing.once('close', () => {
      arrival.finishedAt = clock.now();
      arrival.aborted = !outgoing.writableFinished;
    });
    const fault = faults.next(arrival.method, arrival.target.split('?')[0] ?? '');
    if (fault !== null) {
      incoming.resume();
      inflict(fault, incoming, outgoing);
      return;
    }
    readBody(incoming, arrival, (body) => {
      const { result, headers } = decide(arrival, incoming, body);
      const cancel = after(draw(switches.answerLatency, random), () =>
        send(incoming, outgoing, arrival, result, headers, switches),
      );
      outgoing.once('close', cancel);
    });
  };

  /** At once where there is nothing to wait for: a timer of 0 ms is a millisecond. */
  const after = (ms: number, run: () => void): (() => void) => {
    if (ms > 0) return clock.after(ms, run);
    run();
    return () => {};
  };

  const server = createServer({ keepAliveTimeout: 60_000 }, serve);
  const simulator: Simulator = {
    get url() {
      return `http://${options.host}:${simulator.port}`;
    },
    get port() {
      return (server.address() as AddressInfo).port;
    },
    switches,
    credentials,
    data,
    arrivals: () => recorder.arrivals(),
    stats: () => recorder.stats(),
    reset: () => recorder.reset(),
    fault: (rule) => faults.arm(rule),
    clearFaults: () => faults.clear(),
    useForeign: (count) => {
      for (let i = 0; i < count; i++) throttle.hit(ONE_ACCOUNT);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return simulator;
}

function readBody(incoming: IncomingMessage, arrival: Arrival, done: (body: Buffer) => void): void {
  if (incoming.headers['content-length'] === undefined && incoming.headers['transfer-encoding'] === undefined) {
    done(Buffer.alloc(0));
    return;
  }
  const hash = createHash('sha256');
  const chunks: Buffer[] = [];
  // Callers that break off are what tests are about.
  incoming.on('error', () => {});
  incoming.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    arrival.bodyBytes += chunk.length;
    // Counted to the end, kept only as far as it is needed to refuse it.
    if (arrival.bodyBytes <= LARGEST_BODY + 65_536) chunks.push(chunk);
  });
  incoming.on('end', () => {
    arrival.bodySha256 = hash.digest('hex');
    done(Buffer.concat(chunks));
  });
}

function send(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  arrival: Arrival,
  result: Result,
  limits: readonly string[],
  switches: Switches,
): void {
  if (outgoing.destroyed) return;
  const headers = [...COMMON, ...limits];
  if (result.kind === 'redirect') {
    arrival.status = 302;
    outgoing.writeHead(302, [...headers, 'Location', result.location, 'Content-Length', '0']).end();
    return;
  }
  if (result.kind === 'download') {
    arrival.status = 200;
    outgoing.writeHead(200, [...headers, 'Content-Type', result.type, 'Content-Length', String(result.bytes)]);
    if (incoming.method === 'HEAD') outgoing.end();
    else pipeline(payload(result.bytes), outgoing, () => {});
    return;
  }
  arrival.status = result.status;
  const wantsJson = /\bjson\b/.test(incoming.headers.accept ?? '');
  const html = switches.htmlErrors && result.status >= 400 && !wantsJson;
  const text = html ? `<!DOCTYPE html><title>${result.status}</title>` : result.json;
  const type = html ? 'text/html; charset=UTF-8' : 'application/json';
  const body = Buffer.from(text);
  outgoing.writeHead(result.status, [...headers, 'Content-Type', type, 'Content-Length', String(body.length)]);
  outgoing.end(incoming.method === 'HEAD' ? undefined : body);
}

/** As many bytes as asked for, the same every time, never more than a chunk in memory. */
function payload(bytes: number): Readable {
  const chunk = Buffer.alloc(65_536, 'patchworks payload ');
  let left = bytes;
  return new Readable({
    read() {
      if (left <= 0) {
        this.push(null);
        return;
      }
      const size = Math.min(left, chunk.length);
      left -= size;
      this.push(size === chunk.length ? chunk : chunk.subarray(0, size));
    },
  });
}

function safeDecode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
