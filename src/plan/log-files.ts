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
  const logs: { readonly rest: AsyncGenerator<RecordedRequest>; next: RecordedRequest }[] = [];
  try {
    for (const file of files) {
      const rest = requestsOf(file, read);
      const first = await rest.next();
      if (first.done !== true) logs.push({ rest, next: first.value });
    }
    while (logs.length > 0) {
      const log = logs.reduce((earliest, each) => (each.next.endedAt < earliest.next.endedAt ? each : earliest));
      yield log.next;
      const next = await log.rest.next();
      if (next.done === true) logs.splice(logs.indexOf(log), 1);
      else log.next = next.value;
    }
  } finally {
    for (const { rest } of logs) await rest.return(undefined);
  }
}

async function* requestsOf(file: LogFile, read: LinesRead): AsyncGenerator<RecordedRequest> {
  let line = 0;
  let latestEnd = 0;
  const unreadable = (reason: string): void => {
    read.unreadable += 1;
    if (read.examples.length < MAX_EXAMPLES) read.examples.push({ file: file.name, line, reason });
  };
  try {
    for await (const lines of linesOf(await unpacked(file.open()))) {
      for (const text of lines) {
        line += 1;
        read.lines += 1;
        const parsed = text.length > MAX_LINE_CHARS ? TOO_LONG : parseLine(text);
        if (parsed.kind === 'other') read.other += 1;
        else if (parsed.kind === 'unreadable') unreadable(parsed.reason);
        else if (parsed.request.endedAt < latestEnd - REORDER_MS) unreadable(NOT_IN_ORDER);
        else {
          latestEnd = Math.max(latestEnd, parsed.request.endedAt);
          read.requests += 1;
          yield parsed.request;
        }
      }
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
