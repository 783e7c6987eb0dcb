import { once } from 'node:events';
import { createReadStream, type ReadStream } from 'node:fs';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { parseLine, type RecordedRequest } from './access-line.ts';

/** A log that can be read once. */
export interface LogFile {
  /** For messages. */
  readonly name: string;
  open(): Readable;
  /** So far, as they are in the file. */
  bytesRead(): number;
}

/** Counts of lines. */
export interface LinesRead {
  lines: number;
  requests: number;
  /** Lines about something else than a request. */
  other: number;
  unreadable: number;
  /** The first of them: where, and why. */
  readonly examples: { readonly file: string; readonly line: number; readonly reason: string }[];
}

/** A file as a whole cannot be read. The message names it. */
export class LogFileError extends Error {
  override readonly name = 'LogFileError';
}

export function logFile(path: string): LogFile {
  let stream: ReadStream | null = null;
  return {
    name: path,
    open() {
      stream = createReadStream(path);
      return stream;
    },
    bytesRead: () => stream?.bytesRead ?? 0,
  };
}

/**
 * A line is written when its request ends, so the order of a log is that of the ends. Clocks of machines are set by less than this, and
 * few requests take longer.
 */
export const REORDER_MS = 120_000;
const NOT_IN_ORDER =
  'more than two minutes before the lines above it: give the log of each replica as a file of its own';

const TOO_LONG = { kind: 'unreadable', reason: 'longer than 64 KiB' } as const;
const MAX_EXAMPLES = 5;
/** A longer line is not kept. */
const MAX_LINE_CHARS = 64 * 1024;

/** The requests of several logs as one log, in the order of their ends: each replica of a gateway writes its own. */
export async function* readRequests(files: readonly LogFile[], read: LinesRead): AsyncGenerator<RecordedRequest> {
  const cursors: Cursor[] = [];
  try {
    for (const file of files) {
      const cursor = new Cursor(requestsOf(file, read));
      if (await cursor.advance()) cursors.push(cursor);
    }
    while (cursors.length > 0) {
      let earliest = cursors[0] as Cursor;
      for (const each of cursors) if (each.current.endedAt < earliest.current.endedAt) earliest = each;
      yield earliest.current;
      if (!(await earliest.advance())) cursors.splice(cursors.indexOf(earliest), 1);
    }
  } finally {
    for (const cursor of cursors) await cursor.close();
  }
}

class Cursor {
  readonly #batches: AsyncGenerator<readonly RecordedRequest[]>;
  #batch: readonly RecordedRequest[] = [];
  #index = 0;

  constructor(batches: AsyncGenerator<readonly RecordedRequest[]>) {
    this.#batches = batches;
  }

  get current(): RecordedRequest {
    return this.#batch[this.#index] as RecordedRequest;
  }

  /** False at the end. */
  async advance(): Promise<boolean> {
    this.#index += 1;
    while (this.#index >= this.#batch.length) {
      const next = await this.#batches.next();
      if (next.done === true) return false;
      this.#batch = next.value;
      this.#index = 0;
    }
    return true;
  }

  async close(): Promise<void> {
    await this.#batches.return(undefined);
  }
}

async function* requestsOf(file: LogFile, read: LinesRead): AsyncGenerator<readonly RecordedRequest[]> {
  let line = 0;
  let latestEnd = 0;
  const unreadable = (reason: string): void => {
    read.unreadable += 1;
    if (read.examples.length < MAX_EXAMPLES) read.examples.push({ file: file.name, line, reason });
  };
  try {
    for await (const lines of linesOf(await unpacked(file.open()))) {
      const requests: RecordedRequest[] = [];
      for (const text of lines) {
        line += 1;
        read.lines += 1;
        const parsed = text.length > MAX_LINE_CHARS ? TOO_LONG : parseLine(text);
        if (parsed.kind === 'other') read.other += 1;
        else if (parsed.kind === 'unreadable') unreadable(parsed.reason);
        else if (parsed.request.endedAt < latestEnd - REORDER_MS) unreadable(NOT_IN_ORDER);
        else {
          latestEnd = Math.max(latestEnd, parsed.request.endedAt);
          requests.push(parsed.request);
        }
      }
      read.requests += requests.length;
      yield requests;
    }
  } catch (error) {
    throw new LogFileError(`${file.name} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

/** Decides by the content, because standard input has no name. */
async function unpacked(stream: Readable): Promise<Readable> {
  await once(stream, 'readable');
  const head = stream.read() as Buffer | null;
  if (head === null) return stream;
  stream.unshift(head);
  const isGzip = head[0] === 0x1f && head[1] === 0x8b;
  // An error arrives where the result is read.
  return isGzip ? pipeline(stream, createGunzip(), () => {}) : stream;
}

async function* linesOf(stream: Readable): AsyncGenerator<readonly string[]> {
  stream.setEncoding('utf8');
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + chunk).split('\n');
    rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARS + 1);
    yield lines;
  }
  if (rest !== '') yield [rest];
}
