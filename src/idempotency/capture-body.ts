import { PassThrough, pipeline, type Readable } from 'node:stream';

export type CapturedBody =
  | { readonly kind: 'whole'; readonly body: Buffer }
  /** More than the limit: what is here already, and the rest as it comes. */
  | { readonly kind: 'large'; readonly body: Readable }
  /** It broke off. */
  | { readonly kind: 'broken'; readonly reason: string };

/** Reads a body into memory up to a limit, whether or not anybody waits for it. */
export function captureBody(source: Readable, limitBytes: number): Promise<CapturedBody> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= limitBytes) return;
      source.pause();
      finish({ kind: 'large', body: resumed(chunks, source) });
    };
    const onEnd = (): void => finish({ kind: 'whole', body: Buffer.concat(chunks) });
    const onError = (error: Error): void => finish({ kind: 'broken', reason: error.message });
    const onClose = (): void => onError(new Error('the body broke off'));
    const finish = (gathered: CapturedBody): void => {
      source.off('data', onData).off('end', onEnd).off('close', onClose);
      // The listener for errors stays: one that comes later must not end the process.
      resolve(gathered);
    };
    source.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose);
    // It broke before anybody listened, and says so only once.
    if (source.destroyed) onClose();
  });
}

function resumed(chunks: readonly Buffer[], rest: Readable): Readable {
  const body = new PassThrough();
  body.on('error', () => {});
  for (const chunk of chunks) body.write(chunk);
  // Errors and destruction go both ways.
  pipeline(rest, body, () => {});
  return body;
}
