import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const EMPTY = Buffer.alloc(0);

/** A request body: hashed to its end, and kept up to a limit. Reading begins at once. */
export class Upload {
  bytes = 0;
  /** Set at the end; null for a request without a body. */
  sha256: string | null = null;
  #chunks: Buffer[] = [];
  #complete = false;
  #whenComplete: (() => void) | null = null;

  constructor(incoming: IncomingMessage, keepBytes: number) {
    const { 'content-length': length, 'transfer-encoding': encoding } = incoming.headers;
    if (encoding === undefined && (length === undefined || length === '0')) {
      this.#complete = true;
      return;
    }
    const hash = createHash('sha256');
    // A test may break an upload off; without a listener the error could end the process of the tests.
    incoming.on('error', () => {});
    incoming.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      this.bytes += chunk.length;
      if (this.bytes <= keepBytes) this.#chunks.push(chunk);
      else this.#chunks = [];
    });
    incoming.on('end', () => {
      this.sha256 = hash.digest('hex');
      this.#complete = true;
      this.#whenComplete?.();
    });
  }

  /** Calls `run` once the body is complete; never if the caller disconnects before. */
  onComplete(run: () => void): void {
    if (this.#complete) run();
    else this.#whenComplete = run;
  }

  /** Empty if the body is above the limit. */
  body(): Buffer {
    return this.#chunks.length === 0 ? EMPTY : Buffer.concat(this.#chunks);
  }
}
