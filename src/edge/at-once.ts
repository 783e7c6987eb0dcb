import { ServerResponse, STATUS_CODES } from 'node:http';
import { Duplex } from 'node:stream';
import { inARow } from '../together.ts';

/** What goes out in one piece. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: readonly string[];
  /** Null for a 304 alone: of any other answer its framing has to be said. */
  readonly body: Buffer | null;
}

/**
 * Sends an answer as one text, together with the others of this turn of the event loop. False: nothing was done, and the answer has to
 * go the ordinary way.
 */
export type SendAtOnce = (outgoing: ServerResponse, answer: WholeAnswer) => boolean;

/** What node:http keeps the head of an answer in; no part of its public API, hence {@link behavesAsExpected}. */
interface HeadHolder {
  _header: string | null;
}

/**
 * The head of an answer put together here, and handed to node:http with the body as one text: `writeHead` and `end(body)` go through
 * each header line several times, cork the socket and make a list for `writev`. Doing without saves an eighth of a cached answer
 * (docs/benchmarks.md); all else (order on the connection, keep-alive, back-pressure, events) remains node:http's.
 *
 * It leans on two internals: that `end()` sends what is in `_header`, and that it adds nothing to it. Whether that is so is looked
 * at once, on this very Node; if it is not, null is returned, and every answer goes the ordinary way.
 *
 * @param keepAliveTimeoutMs `keepAliveTimeout` of the server
 */
export function sendAtOnce(keepAliveTimeoutMs: number): SendAtOnce | null {
  const seconds = Math.floor(keepAliveTimeoutMs / 1000);
  const sendOff = inARow(end);
  const tail = `Connection: keep-alive\r\n${keepAliveTimeoutMs > 0 ? `Keep-Alive: timeout=${seconds}\r\n` : ''}\r\n`;
  const prepare = (outgoing: ServerResponse, answer: WholeAnswer): boolean => {
    const { status, headers, body } = answer;
    // Without keep-alive the end of the connection is a part of the answer, which is node:http's to see to.
    if (!outgoing.shouldKeepAlive || (body === null && status !== 304)) return false;
    const lines = linesOf(headers);
    if (lines === null) return false;
    const reason = STATUS_CODES[status] ?? 'unknown';
    const length = body === null ? '' : `Content-Length: ${body.length}\r\n`;
    const date = lines.dated ? '' : dateLine();
    const head = `HTTP/1.1 ${status} ${reason}\r\n${lines.text}${length}${date}${tail}`;
    outgoing.statusCode = status;
    outgoing.statusMessage = reason;
    (outgoing as unknown as HeadHolder)._header = body === null ? head : head + body.toString('latin1');
    return true;
  };
  if (!behavesAsExpected(prepare, keepAliveTimeoutMs)) return null;
  return (outgoing, answer) => {
    if (!prepare(outgoing, answer)) return false;
    sendOff(outgoing);
    return true;
  };
}

function end(outgoing: ServerResponse): void {
  // The caller may have left since; node:http would say that an answer to nobody is finished.
  if (!outgoing.destroyed && outgoing.socket?.destroyed !== true) outgoing.end();
}

/** A token (RFC 9110 section 5.1), and none of the fields by which node:http decides how an answer is framed. */
const PLAIN_NAME =
  /^(?!(?:connection|content-length|expect|keep-alive|trailer|transfer-encoding|upgrade)$)[\w!#$%&'*+.^`|~-]+$/i;
/** What node:http refuses to send is left to it to refuse: a line feed in a value would be another line. */
const PLAIN_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Names that were found plain. Most are the gateway's own; upstream may have any. */
const plainNames = new Set<string>();
const MOST_NAMES = 256;

function isPlain(name: string): boolean {
  if (plainNames.has(name)) return true;
  if (!PLAIN_NAME.test(name)) return false;
  if (plainNames.size >= MOST_NAMES) plainNames.clear();
  plainNames.add(name);
  return true;
}

function linesOf(headers: readonly string[]): { readonly text: string; readonly dated: boolean } | null {
  let text = '';
  let values = '';
  let dated = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    const value = headers[i + 1] as string;
    if (!isPlain(name)) return null;
    if (name.length === 4 && name.toLowerCase() === 'date') dated = true;
    values += value;
    text += `${name}: ${value}\r\n`;
  }
  return PLAIN_VALUE.test(values) ? { text, dated } : null;
}

let datedAt = 0;
let latestDate = '';

/** Made once a second. */
function dateLine(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== datedAt) {
    datedAt = second;
    latestDate = `Date: ${new Date(second * 1000).toUTCString()}\r\n`;
  }
  return latestDate;
}

const SAMPLES: readonly WholeAnswer[] = [
  { status: 200, headers: ['Date', 'now', 'X-Sample', 'a'], body: Buffer.from('{"é":1}') },
  { status: 304, headers: ['Date', 'now', 'ETag', '"a"'], body: null },
];

/** Both ways make the same bytes of the same answer, and node:http takes it for sent. */
function behavesAsExpected(prepare: SendAtOnce, keepAliveTimeoutMs: number): boolean {
  return SAMPLES.every((sample) => {
    const ordinary = written(keepAliveTimeoutMs, (outgoing) => {
      const { status, headers, body } = sample;
      outgoing.writeHead(status, body === null ? [...headers] : [...headers, 'Content-Length', String(body.length)]);
      outgoing.end(body ?? undefined);
    });
    const atOnce = written(keepAliveTimeoutMs, (outgoing) => {
      if (prepare(outgoing, sample)) outgoing.end();
    });
    return atOnce !== null && atOnce === ordinary;
  });
}

/** What an answer puts on the wire; null if node:http does not hold it for complete, or failed. */
function written(keepAliveTimeoutMs: number, answer: (outgoing: ServerResponse) => void): string | null {
  let text = '';
  const wire = new Duplex({
    read() {},
    decodeStrings: true,
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString('latin1');
      done();
    },
  });
  try {
    const request = { method: 'GET', httpVersionMajor: 1, httpVersionMinor: 1, headers: {} };
    const outgoing = new ServerResponse(request as unknown as ConstructorParameters<typeof ServerResponse>[0]);
    // As a server sets it for each of its answers.
    Object.assign(outgoing, { _keepAliveTimeout: keepAliveTimeoutMs });
    outgoing.assignSocket(wire as unknown as Parameters<typeof outgoing.assignSocket>[0]);
    answer(outgoing);
    return outgoing.headersSent && outgoing.writableEnded && outgoing.writableFinished ? text : null;
  } catch {
    return null;
  } finally {
    wire.destroy();
  }
}
