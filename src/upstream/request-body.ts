import type { Readable } from 'node:stream';
import {
  BodyTooLarge,
  type ClientDisconnect,
  extend,
  type Middleware,
  type RequestBody,
  type RequestContext,
  reject,
} from '../context.ts';

/** A request body that is ready to be sent: in memory (it can be sent again), a stream (it cannot), or none. */
export interface WithPayload {
  readonly payload: Buffer | Readable | null;
}

/**
 * Reads small bodies before anything is spent, so that a slow upload holds no slot and the request can be sent again after a 401.
 * Larger bodies, and bodies of unknown size, stream with back-pressure.
 */
export function bufferBody<E extends RequestContext>(options: {
  readonly bufferedBodyBytes: number;
}): Middleware<E, E & WithPayload> {
  return (next) => async (context) => {
    const { body } = context;
    if (body === null) return next(extend(context, { payload: null }));
    if (body.bytes !== undefined) return next(extend(context, { payload: body.bytes }));
    if (body.declaredBytes === null || body.declaredBytes > options.bufferedBodyBytes) {
      return next(extend(context, { payload: body.open() }));
    }
    const read = await readBody(body, context.disconnect);
    if (read.kind === 'failed') {
      if (context.disconnect.happened)
        return reject('client_closed', { internal: 'client disconnected during its upload' });
      return read.tooLarge ? reject('body_too_large') : reject('bad_request', { internal: read.internal });
    }
    return next(extend(context, { payload: read.bytes }));
  };
}

type ReadBody =
  | { readonly kind: 'ok'; readonly bytes: Buffer }
  | { readonly kind: 'failed'; readonly tooLarge: boolean; readonly internal: string };

/** Ends when the client disconnects, although the stream may stay open. */
function readBody(body: RequestBody, disconnect: ClientDisconnect): Promise<ReadBody> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const stream = body.open();
    let stopListening = (): void => {};
    const finish = (result: ReadBody): void => {
      stopListening();
      resolve(result);
    };
    stopListening = disconnect.onDisconnect(() =>
      finish({ kind: 'failed', tooLarge: false, internal: 'client disconnected' }),
    );
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      finish({ kind: 'ok', bytes: chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks) });
    });
    stream.on('error', (error) => {
      finish({ kind: 'failed', tooLarge: error instanceof BodyTooLarge, internal: error.message });
    });
  });
}
