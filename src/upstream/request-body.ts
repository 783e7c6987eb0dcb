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

/** A request body ready to be sent: in memory (it can be sent again), a stream (it cannot), or none. */
export interface WithPayload {
  readonly payload: Buffer | Readable | null;
}

/**
 * Reads small bodies before anything is spent: a slow uploader then holds no slot of the account, and the request can be
 * sent again after a 401. Larger ones, and those of unknown size, stream with back-pressure.
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
    const collected = await collect(body, context.disconnect);
    if (collected.kind === 'failed') {
      return collected.tooLarge ? reject('body_too_large') : reject('bad_request', { internal: collected.internal });
    }
    return next(extend(context, { payload: collected.bytes }));
  };
}

type Collected =
  | { readonly kind: 'ok'; readonly bytes: Buffer }
  | { readonly kind: 'failed'; readonly tooLarge: boolean; readonly internal: string };

function collect(body: RequestBody, disconnect: ClientDisconnect): Promise<Collected> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const stream = body.open();
    let stop = (): void => {};
    const finish = (collected: Collected): void => {
      stop();
      resolve(collected);
    };
    // At once, if the caller has left already.
    stop = disconnect.onDisconnect(() => finish({ kind: 'failed', tooLarge: false, internal: 'caller left' }));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      finish({ kind: 'ok', bytes: chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks) });
    });
    stream.on('error', (error) => {
      finish({ kind: 'failed', tooLarge: error instanceof BodyTooLarge, internal: error.message });
    });
  });
}
