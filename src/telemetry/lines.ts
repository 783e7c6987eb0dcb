import { writeSync } from 'node:fs';

/** A line with its end: a text, or what makes one when it is written. Its length decides when that is, and may be a guess. */
export interface Line {
  readonly length: number;
  toString(): string;
}

/** Where log lines go. */
export interface LineWriter {
  write(line: Line): void;
  /** Writes what is buffered before it returns, or gives up after a while on a reader that does not read. */
  flush(): void;
  /** Lines lost so far: their reader did not keep up, or is gone. */
  dropped(): number;
}

/** Lines wait for company up to this size, and no longer than this time: a write a line costs more than the line. */
const BATCH_CHARS = 32 * 1024;
const BATCH_MS = 200;
/** What a reader may be behind before lines are dropped; the gateway must neither grow nor wait for its log. */
const BACKLOG_CHARS = 8 * 1024 * 1024;
/** When to try a full pipe again; each further batch tries it too, so that the reader alone sets the pace. */
const RETRY_MS = 10;
/** How long the end of the process waits for a reader. */
const FLUSH_PATIENCE_MS = 1_000;
const STDOUT = 1;

/** Writers with lines that are not written yet. Those of a process that ends are flushed, however it ends. */
const unwritten = new Set<BatchedLines>();

/**
 * Lines to a file descriptor, in batches and in order.
 *
 * The writes are synchronous on a pipe that does not block: they copy into the kernel's buffer, or say that it is full.
 * Handed to a thread instead, they cost twice the CPU, keep pace with the turns of the event loop instead of with the
 * reader, and cannot be waited for when the process ends: its last lines would end up amid others.
 *
 * @param finish what is written of lines that are written at one go
 *
 * Not pino's own destination (sonic-boom 4.2): its synchronous flush retries every error for ever, so that a full disk
 * or a closed pipe keeps the process from ending, and its backlog is unbounded.
 */
export function writeLines(fd: number, finish = joined): LineWriter {
  // Node makes the pipe of its own stream non-blocking when the stream is first asked for; inherited, it blocks.
  if (fd === STDOUT) void process.stdout;
  return new BatchedLines(fd, finish);
}

function joined(lines: readonly string[]): string {
  return lines.join('');
}

/** What the kernel has not taken whole yet. */
interface Chunk {
  readonly bytes: Buffer;
  readonly lines: number;
}

class BatchedLines implements LineWriter {
  readonly #fd: number;
  readonly #finish: (lines: readonly string[]) => string;
  #waiting: Line[] = [];
  #chars = 0;
  #rest: Chunk | null = null;
  #triedAt = 0;
  #timer: NodeJS.Timeout | null = null;
  #dropped = 0;

  constructor(fd: number, finish: (lines: readonly string[]) => string) {
    this.#fd = fd;
    this.#finish = finish;
  }

  write(one: Line): void {
    // Behind a reader that is slow many wait, and for long: as texts they are as long as they say, and hold nothing else.
    const line = this.#rest === null ? one : one.toString();
    if (this.#chars + line.length > BACKLOG_CHARS) {
      this.#dropped += 1;
      return;
    }
    this.#waiting.push(line);
    this.#chars += line.length;
    if (this.#timer === null) this.#await(BATCH_MS);
    if (this.#chars - this.#triedAt >= BATCH_CHARS) this.#drain();
  }

  dropped(): number {
    return this.#dropped;
  }

  flush(): void {
    const deadline = performance.now() + FLUSH_PATIENCE_MS;
    while (!this.#advance()) {
      if (performance.now() >= deadline) this.#giveUp();
      else pause(RETRY_MS);
    }
    this.#settle();
  }

  #drain(): void {
    if (this.#advance()) {
      this.#settle();
      return;
    }
    this.#triedAt = this.#chars;
    this.#await(RETRY_MS);
  }

  /** Writes until nothing is left, or until the pipe is full: then false. */
  #advance(): boolean {
    for (let chunk = this.#take(); chunk !== null; chunk = this.#take()) {
      try {
        const written = writeSync(this.#fd, chunk.bytes);
        if (written < chunk.bytes.length) this.#rest = { ...chunk, bytes: chunk.bytes.subarray(written) };
      } catch (error) {
        if (isFull(error)) {
          this.#rest = chunk;
          return false;
        }
        this.#dropped += chunk.lines;
      }
    }
    return true;
  }

  #take(): Chunk | null {
    const rest = this.#rest;
    this.#rest = null;
    if (rest !== null) return rest;
    if (this.#waiting.length === 0) return null;
    const bytes = Buffer.from(this.#finish(this.#waiting.map((line) => line.toString())));
    const lines = this.#waiting.length;
    this.#forget();
    return { bytes, lines };
  }

  #giveUp(): void {
    this.#dropped += this.#waiting.length + (this.#rest?.lines ?? 0);
    this.#forget();
    this.#rest = null;
  }

  #forget(): void {
    this.#waiting = [];
    this.#chars = 0;
    this.#triedAt = 0;
  }

  /** Not kept alive by its timer, a process that has nothing else to do ends, and its end flushes. */
  #await(ms: number): void {
    // One listener for all writers: a process may hold many, and Node warns of more than ten.
    if (unwritten.size === 0) process.once('exit', flushAll);
    unwritten.add(this);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#drain(), ms).unref();
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
