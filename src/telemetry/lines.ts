import { write, writeSync } from 'node:fs';

/** Where log lines go. */
export interface LineWriter {
  /** A whole line with its end. */
  write(line: string): void;
  /** Writes what is buffered before it returns, or gives up after a while on a reader that does not read. */
  flush(): void;
  /** Lines lost so far: their reader did not keep up, or is gone. */
  dropped(): number;
}

/**
 * Lines wait for company up to this size, and no longer than this time: a write a line costs more than the line. The size is
 * PIPE_BUF: what a pipe takes in one piece (POSIX, write). A larger write could be cut in two by the last flush of a
 * process, which does not wait for the one in progress, and lines would end up within lines.
 */
const BATCH_BYTES = 4096;
const BATCH_MS = 200;
/** What a reader may be behind before lines are dropped; the gateway must neither grow nor wait for its log. */
const BACKLOG_CHARS = 8 * 1024 * 1024;
const RETRY_MS = 20;
/** How long the end of the process waits for a reader. */
const FLUSH_PATIENCE_MS = 1_000;

/** Writers with lines that are not written yet. Those of a process that ends are flushed, however it ends. */
const unwritten = new Set<FileLines>();

/**
 * Lines to a file descriptor, in batches, without ever blocking the event loop but for {@link LineWriter.flush}.
 *
 * Not pino's own destination (sonic-boom 4.2): its synchronous flush retries every error for ever, so that a full disk
 * or a closed pipe keeps the process from ending, and its backlog is unbounded.
 */
export function writeLines(fd: number): LineWriter {
  return new FileLines(fd);
}

interface Chunk {
  readonly bytes: Buffer;
  readonly lines: number;
}

class FileLines implements LineWriter {
  readonly #fd: number;
  #waiting: string[] = [];
  #chars = 0;
  /** What the kernel has not taken whole, unless it is at it: then `#writing`, and the chunk is the callback's. */
  #rest: Chunk | null = null;
  #writing = false;
  #timer: NodeJS.Timeout | null = null;
  #dropped = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(line: string): void {
    if (this.#chars + line.length > BACKLOG_CHARS) {
      this.#dropped += 1;
      return;
    }
    if (this.#waiting.length === 0) this.#await();
    this.#waiting.push(line);
    this.#chars += line.length;
    if (this.#chars >= BATCH_BYTES && !this.#writing) this.#start();
  }

  dropped(): number {
    return this.#dropped;
  }

  flush(): void {
    const deadline = performance.now() + FLUSH_PATIENCE_MS;
    // A write in progress has its bytes already and is finished by its thread, also while the process exits: before or
    // after what is written here, never amid.
    for (let chunk = this.#take(); chunk !== null; chunk = this.#take()) {
      try {
        this.#advance(chunk, writeSync(this.#fd, chunk.bytes));
      } catch (error) {
        if (!isFull(error) || performance.now() >= deadline) this.#dropped += chunk.lines;
        else {
          this.#rest = chunk;
          pause(RETRY_MS);
        }
      }
    }
    if (!this.#writing) this.#settle();
  }

  #await(): void {
    unwritten.add(this);
    if (unwritten.size === 1) process.once('exit', flushAll);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (!this.#writing) this.#start();
    }, BATCH_MS).unref();
  }

  #start(): void {
    const chunk = this.#take();
    if (chunk === null) {
      this.#settle();
      return;
    }
    this.#writing = true;
    write(this.#fd, chunk.bytes, (error, written) => {
      this.#writing = false;
      if (error === null) this.#advance(chunk, written);
      else if (isFull(error)) {
        this.#rest = chunk;
        // Not waited for: a reader that does not read must not keep the process alive.
        setTimeout(() => this.#writing || this.#start(), RETRY_MS).unref();
        return;
      } else this.#dropped += chunk.lines;
      this.#start();
    });
  }

  #take(): Chunk | null {
    const rest = this.#rest;
    this.#rest = null;
    if (rest !== null || this.#waiting.length === 0) return rest;
    let lines = 0;
    let bytes = 0;
    while (lines < this.#waiting.length) {
      bytes += Buffer.byteLength(this.#waiting[lines] as string);
      if (bytes > BATCH_BYTES && lines > 0) break;
      lines += 1;
    }
    const text = this.#waiting.splice(0, lines).join('');
    this.#chars -= text.length;
    return { bytes: Buffer.from(text), lines };
  }

  #advance(chunk: Chunk, written: number): void {
    if (written < chunk.bytes.length) this.#rest = { bytes: chunk.bytes.subarray(written), lines: chunk.lines };
  }

  #settle(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    unwritten.delete(this);
    if (unwritten.size === 0) process.removeListener('exit', flushAll);
  }
}

function flushAll(): void {
  for (const lines of [...unwritten]) lines.flush();
}

/** The pipe is full: its reader is slow. */
function isFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'EAGAIN' || code === 'EBUSY';
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
