import { PassThrough, pipeline, Readable } from 'node:stream';
import type { BodyMemory, HeldMemory, TakeResult } from './body-memory.ts';
import type { Clock } from './clock.ts';
import {
  BodyTooLarge,
  extend,
  type Middleware,
  onTimeoutOrDisconnect,
  type Rejection,
  type RequestContext,
  type ResponseBody,
  type Result,
  reject,
} from './context.ts';

type CollectedBody =
  | { readonly kind: 'complete'; readonly body: Buffer }
  /** The body is above the limit, or there was no room for more. `rest` is the part read so far, and the rest as it arrives. */
  | { readonly kind: 'partial'; readonly for: 'limit' | 'room'; readonly rest: () => Readable }
  | { readonly kind: 'broken'; readonly error: Error };

interface CollectOptions {
  readonly limitBytes: number;
  /** Whether there is room for a body of this many bytes. The source is held back until that is known. */
  readonly hasRoom: (bytes: number) => boolean | Promise<boolean>;
  /** Receives a function that gives the body up, and returns a cancellation. */
  readonly until?: (giveUp: (error: Error) => void) => () => void;
}

export function collectBody(source: Readable, options: CollectOptions): Promise<CollectedBody> {
  const { limitBytes, hasRoom, until } = options;
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let finished = false;
    let cancel = (): void => {};
    const finish = (collected: CollectedBody): void => {
      finished = true;
      cancel();
      // The error listener stays: a later error must not end the process.
      source.off('data', onData).off('end', onEnd).off('close', onClose);
      resolve(collected);
    };
    const stopFor = (reason: 'limit' | 'room'): void => {
      source.pause();
      // It may have broken while it waited for room.
      if (source.destroyed) onClose();
      else finish({ kind: 'partial', for: reason, rest: () => prepend(chunks, source) });
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      bytes += chunk.length;
      const room = bytes > limitBytes || hasRoom(bytes);
      if (bytes > limitBytes) stopFor('limit');
      else if (room === false) stopFor('room');
      else if (room !== true) {
        source.pause();
        void room.then((fits) => (fits ? source.resume() : stopFor('room')));
      }
    };
    const onEnd = (): void => {
      finish({ kind: 'complete', body: chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks) });
    };
    const onError = (error: Error): void => finish({ kind: 'broken', error });
    const onClose = (): void => onError(new Error('the body broke off'));
    source.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose);
    if (until !== undefined) cancel = until(onError);
    // It may be given up at once.
    if (finished) cancel();
    // A destroyed source emits nothing more.
    if (source.destroyed) onClose();
  });
}

const SLICE_BYTES = 64 * 1024;

/** A body in memory as a stream of slices: its reader sets the pace, and is seen to make progress. */
export function sliced(body: Buffer): Readable {
  return Readable.from(slicesOf(body), { objectMode: false });
}

function* slicesOf(body: Buffer): Generator<Buffer> {
  for (let at = 0; at < body.length; at += SLICE_BYTES) yield body.subarray(at, at + SLICE_BYTES);
}

function prepend(chunks: readonly Buffer[], rest: Readable): Readable {
  const body = new PassThrough();
  body.on('error', () => {});
  for (const chunk of chunks) body.write(chunk);
  // Passes errors and destruction in both directions.
  pipeline(rest, body, () => {});
  return body;
}

export interface ReadBodyOptions {
  readonly bodyMemory: BodyMemory;
  readonly clock: Clock;
}

export interface ReadableContext extends RequestContext {
  /** A request waits as long for room as for a slot. */
  readonly tenant: { readonly id: string; readonly quota: { readonly maxWaitMs: number } };
  readonly route: { readonly upstream: { readonly timeoutMs: number } };
}

type ReadBody =
  /** Release the memory when the body is not needed any more. */
  | { readonly kind: 'read'; readonly body: Buffer; readonly held: HeldMemory }
  /** A body above the limit. If it did not declare its length, its beginning is in memory. */
  | { readonly kind: 'larger'; readonly rest: () => Readable; readonly held: HeldMemory }
  | Rejection;

/** Memory for the beginning of a chunked body. It is doubled as the body grows. */
const FIRST_BYTES = 64 * 1024;
const RETRY_AFTER_SECONDS = 1;

/**
 * Reads the body of a request, within the upstream's timeout. Nothing is read before there is room for it, so that a caller is held
 * back by its connection. It ends when the client disconnects, although the stream may stay open.
 */
export async function readRequestBody(
  { bodyMemory, clock }: ReadBodyOptions,
  context: ReadableContext,
  limitBytes: number,
): Promise<ReadBody> {
  const { body, tenant, disconnect, route, record } = context;
  if (body === null) throw new Error('the request has no body');
  const held = bodyMemory.open(tenant.id);
  if (body.declaredBytes !== null && body.declaredBytes > limitBytes) {
    return { kind: 'larger', rest: () => body.open(), held };
  }
  const terms = { maxWaitMs: tenant.quota.maxWaitMs, disconnect };
  const since = clock.monotonic();
  const begun = await held.take(body.declaredBytes ?? Math.min(FIRST_BYTES, limitBytes), terms);
  record.waitMs += clock.monotonic() - since;
  if (begun !== 'taken') return rejectFull(begun);
  let refused: TakeResult = 'full';
  const grow = async (bytes: number): Promise<boolean> => {
    refused = await held.take(bytes, terms);
    return refused === 'taken';
  };
  const hasRoom = (bytes: number): boolean | Promise<boolean> => {
    if (bytes <= held.bytes) return true;
    const more = Math.min(limitBytes, Math.max(bytes, 2 * held.bytes)) - held.bytes;
    return held.tryTake(more) || grow(more);
  };
  const until = (giveUp: (error: Error) => void): (() => void) => {
    const { timeoutMs: ms } = route.upstream;
    return onTimeoutOrDisconnect({ clock, ms, disconnect }, (why) =>
      giveUp(why === 'timeout' ? new UploadTimeout() : new Error('client disconnected')),
    );
  };
  const stream = body.open();
  const read = await collectBody(stream, { limitBytes, hasRoom, until });
  if (read.kind === 'complete') {
    held.shrinkTo(read.body.length);
    return { kind: 'read', body: read.body, held };
  }
  if (read.kind === 'partial' && read.for === 'limit') return { kind: 'larger', rest: read.rest, held };
  held.release();
  // Drops the rest of the body.
  stream.resume();
  return read.kind === 'partial' ? rejectFull(refused) : rejectBroken(read.error, disconnect.happened);
}

class UploadTimeout extends Error {
  override readonly name = 'UploadTimeout';
}

function rejectBroken(error: Error, disconnected: boolean): Rejection {
  if (disconnected) return reject('client_closed', { internal: error.message });
  if (error instanceof BodyTooLarge) return reject('body_too_large', { detail: error.message });
  if (error instanceof UploadTimeout) return reject('upload_timeout');
  return reject('bad_request', { detail: 'The request body broke off.', internal: error.message });
}

function rejectFull(result: TakeResult): Rejection {
  if (result === 'disconnected')
    return reject('client_closed', { internal: 'client disconnected while waiting for memory' });
  if (result === 'closed') return reject('draining', { retryAfterSeconds: RETRY_AFTER_SECONDS });
  return reject('overloaded', { retryAfterSeconds: RETRY_AFTER_SECONDS, internal: 'bufferedTotal' });
}

/** A request body that is ready to be sent: in memory (it can be sent again), a stream (it cannot), or none. */
export interface WithPayload {
  readonly payload: Buffer | Readable | null;
}

/**
 * Reads small bodies before anything is spent, so that a slow upload holds no slot and the request can be sent again after a 401.
 * Larger bodies stream with back-pressure.
 */
export function bufferBody<E extends ReadableContext>(
  options: ReadBodyOptions & { readonly bufferedBodyBytes: number },
): Middleware<E, E & WithPayload> {
  return (next) => async (context) => {
    const { body } = context;
    if (body === null) return next(extend(context, { payload: null }));
    if (body.bytes !== undefined) return next(extend(context, { payload: body.bytes }));
    const read = await readRequestBody(options, context, options.bufferedBodyBytes);
    if (read.kind === 'rejection') return read;
    return whileHeld([read.held], () =>
      next(extend(context, { payload: read.kind === 'read' ? read.body : read.rest() })),
    );
  };
}

/** Does the work of a request, and releases memory after it. A response that streams may still read the request's body. */
export async function whileHeld(memory: readonly HeldMemory[], work: () => Promise<Result>): Promise<Result> {
  const release = (): void => {
    for (const held of memory) held.release();
  };
  let body: ResponseBody = null;
  try {
    const result = await work();
    if (result.kind === 'response') body = result.body;
    return result;
  } finally {
    if (body instanceof Readable && !body.closed) body.once('close', release);
    else release();
  }
}
