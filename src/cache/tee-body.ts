import { Readable } from 'node:stream';

export interface TeeOptions {
  readonly limitBytes: number;
  /** Null where upstream does not say. */
  readonly declaredBytes: number | null;
  /**
   * Called once: with a copy when the whole body has arrived, before its last byte is out, so that whoever has read it to the
   * end finds it stored; or with null as soon as it is clear that there will be none: it broke, or grew above the limit.
   */
  readonly onComplete: (body: Buffer | null) => void;
  /** The reader has left before the end. True: the rest is wanted all the same. */
  readonly keepReading: () => boolean;
}

/**
 * Passes a body on as it comes, and reads it to its end whoever reads along: those who wait for the copy do not wait for a
 * slow reader, and do not lose it with one who leaves. Above the limit there is no copy, and the reader sets the pace.
 */
export function teeBody(source: Readable, options: TeeOptions): TeeBody {
  return new TeeBody(source, options);
}

class TeeBody extends Readable {
  readonly #source: Readable;
  readonly #options: TeeOptions;
  #chunks: Buffer[] | null = [];
  #bytes = 0;
  #told = false;
  #gone = false;

  constructor(source: Readable, options: TeeOptions) {
    super();
    this.#source = source;
    this.#options = options;
    // It may break before anyone reads it, or after nobody does any more.
    this.on('error', () => {});
    source.on('data', (chunk: Buffer) => this.#take(chunk));
    source.on('end', () => this.#end());
    source.on('error', (error: Error) => this.#break(error));
    source.on('close', () => this.#break(new Error('the body broke off')));
    // It broke before anybody listened, and says so only once. Later, as `whole` is not told before this is there.
    if (source.destroyed) process.nextTick(() => this.#break(new Error('the body broke off')));
  }

  /** Nobody wants the rest any more. */
  abandon(): void {
    this.#tell(null);
    this.#source.destroy();
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#gone = true;
    if (!this.#told && this.#options.keepReading()) this.#source.resume();
    else if (!this.#source.readableEnded) this.abandon();
    done(error);
  }

  #take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    const { limitBytes, declaredBytes } = this.#options;
    if (this.#bytes > limitBytes) this.#tell(null);
    this.#chunks?.push(chunk);
    if (this.#bytes === declaredBytes) this.#tellWhole();
    if (this.#gone) {
      if (this.#told) this.#source.destroy();
      return;
    }
    const full = !this.push(chunk);
    if (full && this.#chunks === null) this.#source.pause();
  }

  #end(): void {
    this.#tellWhole();
    if (!this.#gone) this.push(null);
  }

  #break(error: Error): void {
    if (this.#source.readableEnded) return;
    this.#tell(null);
    if (!this.#gone) this.destroy(error);
  }

  #tellWhole(): void {
    const { declaredBytes } = this.#options;
    // A body cut short must not be served for a whole one, however it came about (RFC 9112 section 8).
    const short = declaredBytes !== null && this.#bytes !== declaredBytes;
    this.#tell(this.#chunks === null || short ? null : exactCopy(this.#chunks, this.#bytes));
  }

  #tell(body: Buffer | null): void {
    this.#chunks = null;
    if (this.#told) return;
    this.#told = true;
    this.#options.onComplete(body);
  }
}

export type { TeeBody as Collected };

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
