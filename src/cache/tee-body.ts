import { Readable } from 'node:stream';
import type { HeldMemory } from '../body-memory.ts';

interface TeeOptions {
  readonly limitBytes: number;
  /** Memory for the copy; released when the copy is complete and the reader has closed. Without room there is no copy. */
  readonly memory: HeldMemory;
  /** Null where the upstream declares no length. */
  readonly declaredBytes: number | null;
  /**
   * Called once. With a copy when the whole body has arrived, before its last byte goes out: a caller that has read the body
   * finds it stored. With null as soon as there will be no copy, because the body broke off or is too large.
   */
  readonly onComplete: (body: Buffer | null) => void;
  /** Called when the reader closes before the end. True: the rest is still needed for the copy. */
  readonly keepReading: () => boolean;
}

/**
 * Passes a body on as it arrives, and copies it. The copy does not wait for a slow reader, and is completed when the reader
 * closes early. Above the limit there is no copy, and the reader sets the pace.
 */
export class TeeBody extends Readable {
  readonly #source: Readable;
  readonly #options: TeeOptions;
  #chunks: Buffer[] | null = [];
  #bytes = 0;
  #completed = false;
  #readerClosed = false;

  constructor(source: Readable, options: TeeOptions) {
    super();
    this.#source = source;
    this.#options = options;
    // An error may come before or after the reader listens, and must not end the process.
    this.on('error', () => {});
    source.on('data', (chunk: Buffer) => this.#take(chunk));
    source.on('end', () => this.#end());
    source.on('error', (error: Error) => this.#break(error));
    source.on('close', () => this.#break(new Error('the body broke off')));
    // A destroyed source emits nothing more. Deferred, so that `onComplete` is not called before the caller has this object.
    if (source.destroyed) process.nextTick(() => this.#break(new Error('the body broke off')));
  }

  /** The rest of the body is not needed any more. */
  abandon(): void {
    this.#complete(null);
    this.#source.destroy();
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#readerClosed = true;
    if (!this.#completed && this.#options.keepReading()) this.#source.resume();
    else if (!this.#source.readableEnded) this.abandon();
    // Until now the reader may have kept the chunks in its queue.
    if (this.#completed) this.#options.memory.release();
    done(error);
  }

  #take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    const { limitBytes, declaredBytes, memory } = this.#options;
    if (this.#bytes > limitBytes || (this.#chunks !== null && !memory.tryTake(chunk.length))) this.#complete(null);
    this.#chunks?.push(chunk);
    if (this.#bytes === declaredBytes) this.#completeWithCopy();
    if (this.#readerClosed) {
      if (this.#completed) this.#source.destroy();
      return;
    }
    const full = !this.push(chunk);
    if (full && this.#chunks === null) this.#source.pause();
  }

  #end(): void {
    this.#completeWithCopy();
    if (!this.#readerClosed) this.push(null);
  }

  #break(error: Error): void {
    if (this.#source.readableEnded) return;
    this.#complete(null);
    if (!this.#readerClosed) this.destroy(error);
  }

  #completeWithCopy(): void {
    const { declaredBytes } = this.#options;
    // A truncated body must not be served as a complete one (RFC 9112 section 8).
    const truncated = declaredBytes !== null && this.#bytes !== declaredBytes;
    this.#complete(this.#chunks === null || truncated ? null : exactCopy(this.#chunks, this.#bytes));
  }

  #complete(body: Buffer | null): void {
    this.#chunks = null;
    if (this.#completed) return;
    this.#completed = true;
    if (this.#readerClosed) this.#options.memory.release();
    this.#options.onComplete(body);
  }
}

/**
 * A buffer with memory of its own. A small buffer may be a view of a pool, or of the 64 KiB of a socket read: storing the view
 * would keep all of that memory, which no count of bytes would show.
 */
export function exactCopy(chunks: readonly Buffer[], bytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const chunk of chunks) at += chunk.copy(copy, at);
  return copy;
}
