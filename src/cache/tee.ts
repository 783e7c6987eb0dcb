import { pipeline, type Readable, Transform, type TransformCallback } from 'node:stream';

/**
 * Passes a body on as it comes, with its back-pressure, and hands over a copy once the whole of it has arrived: before
 * the last byte is out, so that whoever has read it to the end finds it stored. A body that breaks, that its reader
 * gives up, or that grows above `limitBytes` is not handed over.
 */
export function tee(source: Readable, limitBytes: number, whole: (body: Buffer) => unknown): Readable {
  let chunks: Buffer[] | null = [];
  let bytes = 0;
  const copy = new Transform({
    transform(chunk: Buffer, _encoding, done: TransformCallback) {
      bytes += chunk.length;
      if (bytes > limitBytes) chunks = null;
      chunks?.push(chunk);
      done(null, chunk);
    },
    flush(done: TransformCallback) {
      if (chunks !== null) whole(exactCopy(chunks, bytes));
      chunks = null;
      done();
    },
  });
  // Errors and destruction go both ways; whoever reads the copy hears of them there.
  pipeline(source, copy, () => {
    chunks = null;
  });
  return copy;
}

/**
 * A buffer with memory of its own. A small one is otherwise a window into a pool or into the 64 KiB that a socket read
 * filled, and keeping it would keep all of that, which no count of bytes would show.
 */
export function exactCopy(chunks: readonly Buffer[], bytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const chunk of chunks) at += chunk.copy(copy, at);
  return copy;
}
