import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { BodyTooLarge, type RequestBody } from '../context.ts';

export type BodyOf = { readonly kind: 'body'; readonly body: RequestBody | null } | { readonly kind: 'too_large' };

/**
 * The body of a request, unread. Node has checked the framing (one Content-Length or chunked, never both), so a declared
 * size is the size; only a chunked body has to be counted.
 */
export function requestBodyOf(incoming: IncomingMessage, outgoing: ServerResponse, limitBytes: number): BodyOf {
  const length = incoming.headers['content-length'];
  const chunked = incoming.headers['transfer-encoding'] !== undefined;
  if (length === undefined && !chunked) return { kind: 'body', body: null };
  const declaredBytes = length === undefined ? null : Number(length);
  if (declaredBytes === 0) return { kind: 'body', body: null };
  if (declaredBytes !== null && declaredBytes > limitBytes) return { kind: 'too_large' };
  const open = (): Readable => {
    if (waitsForContinue(incoming)) outgoing.writeContinue();
    return declaredBytes === null ? counted(incoming, limitBytes) : incoming;
  };
  return { kind: 'body', body: { declaredBytes, open } };
}

/** RFC 9110 section 10.1.1: other expectations mean nothing to us, and HTTP/1.0 knows no interim answers. */
function waitsForContinue({ headers, httpVersion }: IncomingMessage): boolean {
  return headers.expect?.toLowerCase() === '100-continue' && httpVersion === '1.1';
}

function counted(incoming: IncomingMessage, limitBytes: number): Readable {
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > limitBytes) done(new BodyTooLarge(`more than ${limitBytes} bytes`));
      else done(null, chunk);
    },
  });
  // It may break before anyone reads it, or after nobody does any more; that must not end the process.
  counter.on('error', () => {});
  // Not `pipeline`: it would destroy the request, and with it the connection that still has to carry the refusal.
  incoming.on('error', (error) => counter.destroy(error));
  incoming.on('close', () => {
    if (!incoming.readableEnded) counter.destroy(new Error('the caller broke off'));
  });
  incoming.pipe(counter);
  return counter;
}
