import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { FAKE_PAYLOAD } from './items.ts';
import type { Arrival } from './record.ts';
import type { Result } from './result.ts';
import type { Switches } from './switches.ts';

const CHUNK = Buffer.alloc(65_536, FAKE_PAYLOAD);

/** Writes a response. `headers` has all headers but those that describe the body. */
export function sendResponse(
  { incoming, outgoing, arrival }: { incoming: IncomingMessage; outgoing: ServerResponse; arrival: Arrival },
  result: Result,
  headers: readonly string[],
  switches: Switches,
): void {
  if (outgoing.destroyed) return;
  if (result.kind === 'redirect') {
    arrival.status = 302;
    outgoing.writeHead(302, [...headers, 'Location', result.location, 'Content-Length', '0']).end();
    return;
  }
  if (result.kind === 'download') {
    const framing = result.framing === 'length' ? ['Content-Length', String(result.bytes)] : [];
    arrival.status = 200;
    outgoing.writeHead(200, [...headers, 'Content-Type', result.type, ...framing]);
    if (incoming.method === 'HEAD') outgoing.end();
    // An error here is a client disconnect, which the record has.
    else pipeline(payload(result.bytes), outgoing, () => {});
    return;
  }
  arrival.status = result.status;
  const html = (result.status >= 400 ? switches.htmlErrors : switches.htmlResponses) && !wantsJson(incoming);
  const json = switches.echo ? echoing(result.json, arrival) : result.json;
  const body = html ? `<!DOCTYPE html><title>${result.status}</title>` : json;
  const type = html ? 'text/html; charset=UTF-8' : 'application/json';
  const length = String(Buffer.byteLength(body));
  outgoing.writeHead(result.status, [...headers, 'Content-Type', type, 'Content-Length', length]);
  outgoing.end(incoming.method === 'HEAD' ? undefined : body);
}

/** Adds the echo as the last member of a JSON object. */
function echoing(json: string | Buffer, { target, bodySha256 }: Arrival): string {
  const text = String(json);
  const end = text.lastIndexOf('}');
  if (end === -1) return text;
  const comma = /^\{\s*$/.test(text.slice(0, end)) ? '' : ',';
  return `${text.slice(0, end)}${comma}"echo":${JSON.stringify({ target, bodySha256 })}}`;
}

/** `application/json` or any `+json`, as Laravel's `wantsJson`. */
function wantsJson(incoming: IncomingMessage): boolean {
  const accept = incoming.headers.accept ?? '';
  return accept.includes('/json') || accept.includes('+json');
}

/** Streams this many bytes with at most one chunk in memory. */
function payload(bytes: number): Readable {
  let left = bytes;
  return new Readable({
    read() {
      if (left <= 0) {
        this.push(null);
        return;
      }
      const size = Math.min(left, CHUNK.length);
      left -= size;
      this.push(size === CHUNK.length ? CHUNK : CHUNK.subarray(0, size));
    },
  });
}
