import { constants, type FileHandle, open } from 'node:fs/promises';
import type { Clock } from '../clock.ts';

/** Reads a file as text. Rejects with a reason that {@link reasonOf} can name. */
export type ReadFile = (path: string) => Promise<string>;

/** Four times what 10,000 tenants need. */
const MAX_FILE_BYTES = 8 * 1024 ** 2;
/** For all files of one load together. A network file system may answer late, or never. */
const LOAD_TIMEOUT_MS = 10_000;

class Unreadable extends Error {}

interface FileReaderOptions {
  readonly clock: Clock;
  /** Default: {@link readRegularFile}. */
  readonly read?: (path: string, signal: AbortSignal) => Promise<string>;
}

/**
 * Makes a reader for each load, with one deadline for all its files. A file that was not read by then is not asked for again
 * before its read has ended: each one holds a thread of Node's pool, which has four.
 */
export function createFileReaders({ clock, read = readRegularFile }: FileReaderOptions): () => ReadFile {
  const late = new Set<string>();
  return () => {
    const deadline = clock.monotonic() + LOAD_TIMEOUT_MS;
    return async (path) => {
      if (late.has(path)) throw new Unreadable('an earlier read of it has not ended');
      const abort = new AbortController();
      const reading = read(path, abort.signal);
      const done = (): void => {
        late.delete(path);
      };
      reading.then(done, done);
      return new Promise((resolve, reject) => {
        const cancel = clock.after(Math.max(0, deadline - clock.monotonic()), () => {
          late.add(path);
          abort.abort();
          reject(new Unreadable(`not read within ${LOAD_TIMEOUT_MS / 1000} s`));
        });
        reading.then(resolve, reject).finally(cancel);
      });
    };
  };
}

/**
 * Reads a regular file of bounded size. A pipe or a device may never end, and the thread that waits for it cannot be stopped, so
 * that even `process.exit()` would wait.
 */
async function readRegularFile(path: string, signal: AbortSignal): Promise<string> {
  // Opening a pipe without a writer would wait, without O_NONBLOCK.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (stats.isDirectory()) throw new Unreadable('is a directory');
    if (!stats.isFile()) throw new Unreadable('is not a regular file');
    return await readBounded(file, signal);
  } finally {
    await file.close();
  }
}

/** By bytes that are read: a file may grow meanwhile, and files of the kernel have the size 0. */
async function readBounded(file: FileHandle, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  while (!signal.aborted) {
    const { bytesRead, buffer } = await file.read({ buffer: Buffer.allocUnsafe(64 * 1024) });
    if (bytesRead === 0) break;
    bytes += bytesRead;
    if (bytes > MAX_FILE_BYTES) throw new Unreadable(`is larger than ${MAX_FILE_BYTES / 1024 ** 2} MiB`);
    chunks.push(buffer.subarray(0, bytesRead));
  }
  return Buffer.concat(chunks).toString('utf8');
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'is a directory',
  ENXIO: 'is not a regular file',
};

/** Describes an error by its code (`ENOENT`): its message quotes paths, and sometimes content. */
export function reasonOf(error: unknown): string {
  if (error instanceof Unreadable) return error.message;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string')
    return WORDS[error.code] ?? error.code;
  return 'not readable';
}
