import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const EMPTY = Buffer.alloc(0);

/** A request body: hashed to its end, kept only up to a limit. Reading begins at once, as the kernel's does. */
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
    // Callers that break off are what tests are about. Node 20 drops the error where nobody listens (tried with a close,
    // a reset and a malformed chunk); the process of the tests should not depend on that.
    incoming.on('error', () => {});
    incoming.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      this.bytes += chunk.length;
      // Counted to the end, kept only as far as it may be used.
      if (this.bytes <= keepBytes) this.#chunks.push(chunk);
      else this.#chunks = [];
    });
    incoming.on('end', () => {
      this.sha256 = hash.digest('hex');
      this.#complete = true;
      this.#whenComplete?.();
    });
  }

  /** Calls `run` once, when the body is there; never, if the caller leaves before that. */
  onComplete(run: () => void): void {
    if (this.#complete) run();
    else this.#whenComplete = run;
  }

  /** Empty where it was more than is kept. */
  body(): Buffer {
    return this.#chunks.length === 0 ? EMPTY : Buffer.concat(this.#chunks);
  }
}
