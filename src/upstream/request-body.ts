import type { Readable } from 'node:stream';
import { extend, type Middleware } from '../context.ts';
import { type ReadableContext, type ReadBodyOptions, readRequestBody, whileHeld } from '../read-body.ts';

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
  const { bufferedBodyBytes } = options;
  return (next) => async (context) => {
    const { body } = context;
    if (body === null) return next(extend(context, { payload: null }));
    if (body.bytes !== undefined) return next(extend(context, { payload: body.bytes }));
    const read = await readRequestBody(options, context, bufferedBodyBytes);
    if (read.kind === 'rejection') return read;
    return whileHeld([read.held], () =>
      next(extend(context, { payload: read.kind === 'read' ? read.body : read.rest() })),
    );
  };
}
