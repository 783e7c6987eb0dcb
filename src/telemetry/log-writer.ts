import sonicBoom, { type SonicBoom } from 'sonic-boom';

/** Where finished log lines go. A slow or broken reader neither blocks nor ends the process. */
export interface LogWriter {
  /** @param line with its newline */
  write(line: string): void;
  /** Resolves when all lines are written, or after {@link CLOSE_TIMEOUT_MS}. Later lines are lost. */
  close(): Promise<void>;
  /** Lines lost so far: the reader did not keep up, or a write failed. */
  lost(): number;
}

/** A write costs more than a few lines. */
const BATCH_BYTES = 4 * 1024;
const BATCH_MS = 200;
/** The reader may be this far behind before lines are lost. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 1_000;
/** When the process exits and the pipe is full. The library sleeps 100 ms before each. */
const RETRIES_AT_EXIT = 10;

/**
 * Lines to standard output by sonic-boom: in order, in batches, by a thread of Node's pool.
 *
 * `pino.destination` makes the same, but with additions that break what is promised here: after the first EPIPE it drops
 * all lines uncounted, it flushes at exit without a bound, and its older sonic-boom repeats a failed flush for ever.
 */
export function openLogWriter(): LogWriter {
  /** Where each line that is not written yet ends, in bytes since the start. */
  let waiting: number[] = [];
  let acceptedBytes = 0;
  let writtenBytes = 0;
  let lost = 0;
  let retries = Number.POSITIVE_INFINITY;
  let closed = false;

  const loseWaiting = (): void => {
    lost += waiting.length;
    waiting = [];
    writtenBytes = acceptedBytes;
  };
  const open = (): SonicBoom => {
    const opened = new sonicBoom.SonicBoom({
      // Reading it makes a pipe non-blocking: a thread that blocks in a write would keep the process from ending.
      fd: process.stdout.fd,
      sync: false,
      minLength: BATCH_BYTES,
      maxLength: MAX_WAITING_BYTES,
      periodicFlush: BATCH_MS,
      retryEAGAIN: () => retries-- > 0,
    });
    opened.on('drop', () => {
      lost += 1;
    });
    opened.on('write', (bytes: number) => {
      writtenBytes += bytes;
      const next = waiting.findIndex((end) => end > writtenBytes);
      waiting.splice(0, next === -1 ? waiting.length : next);
    });
    // A closed pipe or a full disk. The library would keep the lines until its memory is full, and the count would stay at zero for hours.
    opened.on('error', () => {
      loseWaiting();
      opened.destroy();
      if (!closed) stream = open();
    });
    return opened;
  };
  let stream = open();

  const flushAtExit = (): void => {
    retries = RETRIES_AT_EXIT;
    try {
      stream.flushSync();
    } catch {
      // There is no place left to report it to.
    }
  };
  process.once('exit', flushAtExit);

  return {
    write(line) {
      const before = lost;
      if (closed) lost += 1;
      else stream.write(line);
      if (lost > before) return;
      acceptedBytes += Buffer.byteLength(line);
      waiting.push(acceptedBytes);
    },
    async close() {
      // Before the stream ends: it throws at a line that comes while it does.
      closed = true;
      await ended(stream);
      // A write that is under way would be repeated for ever, though the stream is destroyed.
      retries = 0;
      process.removeListener('exit', flushAtExit);
      stream.destroy();
      loseWaiting();
    },
    lost: () => lost,
  };
}

function ended(stream: SonicBoom): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    stream.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    stream.end();
  });
}
