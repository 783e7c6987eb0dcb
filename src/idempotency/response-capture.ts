import { PassThrough, pipeline, Readable } from 'node:stream';
import { type HeaderList, type ProxyResponse, type Result, reject, respond } from '../context.ts';
import type { RecordedResponse, WriteOutcome } from './store.ts';

/** Reads a response up to a limit. Returns the result for the caller, and the outcome for the store. */
export async function captureResponse(
  response: ProxyResponse,
  limitBytes: number,
): Promise<{ readonly result: Result; readonly outcome: WriteOutcome }> {
  const { status, headers, body } = response;
  if (!(body instanceof Readable)) {
    const fits = (body?.length ?? 0) <= limitBytes;
    return { result: response, outcome: completed(status, headers, fits ? (body ?? Buffer.alloc(0)) : null) };
  }
  const captured = await captureBody(body, limitBytes);
  switch (captured.kind) {
    case 'complete': {
      const result = respond(status, without(headers, CONTENT_LENGTH), captured.body);
      return { result, outcome: completed(status, headers, captured.body) };
    }
    case 'too_large':
      return { result: respond(status, headers, captured.body), outcome: completed(status, headers, null) };
    case 'broken':
      return {
        result: reject('upstream_protocol', { internal: captured.reason }),
        outcome: { kind: 'unknown' },
      };
  }
}

/** Fields that each response sets anew. Cookies, credentials and limits of the account were removed before. */
const OF_ONE_RESPONSE: ReadonlySet<string> = new Set([
  'content-length',
  'cache-status',
  'retry-after',
  'server-timing',
]);
const CONTENT_LENGTH: ReadonlySet<string> = new Set(['content-length']);

function completed(status: number, headers: HeaderList, body: Buffer | null): WriteOutcome {
  const response: RecordedResponse = { status, headers: without(headers, OF_ONE_RESPONSE), body };
  return { kind: 'completed', response };
}

function without(headers: HeaderList, names: ReadonlySet<string>): HeaderList {
  const kept: HeaderList = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!names.has(name.toLowerCase())) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}

export type CapturedBody =
  | { readonly kind: 'complete'; readonly body: Buffer }
  /** Above the limit: the part read so far, and the rest as it arrives. */
  | { readonly kind: 'too_large'; readonly body: Readable }
  | { readonly kind: 'broken'; readonly reason: string };

/** Reads a body into memory up to a limit, also if no caller reads it. */
export function captureBody(source: Readable, limitBytes: number): Promise<CapturedBody> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= limitBytes) return;
      source.pause();
      finish({ kind: 'too_large', body: prepend(chunks, source) });
    };
    const onEnd = (): void => finish({ kind: 'complete', body: Buffer.concat(chunks) });
    const onError = (error: Error): void => finish({ kind: 'broken', reason: error.message });
    const onClose = (): void => onError(new Error('the body broke off'));
    const finish = (captured: CapturedBody): void => {
      // The error listener stays: a later error must not end the process.
      source.off('data', onData).off('end', onEnd).off('close', onClose);
      resolve(captured);
    };
    source.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose);
    // A destroyed source emits nothing more.
    if (source.destroyed) onClose();
  });
}

function prepend(chunks: readonly Buffer[], rest: Readable): Readable {
  const body = new PassThrough();
  body.on('error', () => {});
  for (const chunk of chunks) body.write(chunk);
  // Passes errors and destruction in both directions.
  pipeline(rest, body, () => {});
  return body;
}
