import { stat } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../clock.ts';
import { type ReadFile, reasonOf } from '../config/read-file.ts';
import { contentsNow, type FileContents } from './reloader.ts';

interface WatchOptions {
  /** The files that the latest load has read, whether it was accepted or not. */
  readonly files: () => FileContents;
  /** `reload.poll`; null where `reload.watch` is off. */
  readonly pollMs: () => number | null;
  /** Loads again. Never throws; `files` is the new state afterwards, whatever the outcome. */
  readonly reload: () => Promise<unknown>;
  /** Makes the reader of one look. */
  readonly fileReader: () => ReadFile;
  readonly clock: Clock;
}

export interface FileWatch {
  /** A load that was asked for elsewhere is over: other files may count, or none. */
  refresh(): void;
  close(): void;
}

/** Files are asked this often whether they changed. Contents that are the same in two looks are taken to be written to their end. */
const LOOK_MS = 150;
/** A file that goes on changing is loaded after this time as it is then. */
const LONGEST_CHANGE_MS = 5_000;

/**
 * Loads again when the content of the configuration's files has changed and settled. Size, times and identity of the files only
 * say when to read them. The content decides: a touched file loads nothing, and a change that shows in none of them costs
 * `reload.poll` and no more.
 */
export function watchFiles({ files, pollMs, reload, fileReader, clock }: WatchOptions): FileWatch {
  let isRunning = false;
  let cancel = (): void => {};
  let closed = false;
  /** As the last look found the files, and when; whether they were others than in the look before it. */
  let seen = { identity: '', at: Number.NEGATIVE_INFINITY, changed: false };
  /** A change that is not loaded yet: as the last look saw it, and since when there is one. */
  let changing: { readonly contents: FileContents; readonly since: number } | null = null;

  const compare = async (at: number): Promise<void> => {
    const loaded = files();
    const contents = await contentsNow(loaded, fileReader());
    const since = changing?.since ?? at;
    const isSettled = isDeepStrictEqual(contents, changing?.contents) || at - since >= LONGEST_CHANGE_MS;
    const isChanged = !isDeepStrictEqual(contents, loaded);
    changing = isChanged && !isSettled ? { contents, since } : null;
    if (isChanged && isSettled) await reload();
  };
  const look = async (): Promise<void> => {
    const poll = pollMs();
    isRunning = !closed && poll !== null;
    if (!isRunning || poll === null) {
      changing = null;
      return;
    }
    const at = clock.monotonic();
    const identity = await identityOf(files().keys());
    const changed = identity !== seen.identity;
    // A write may come within the granularity of the times, so that it shows only in the contents, one look later.
    const isDue = changed || seen.changed || changing !== null || at - seen.at >= poll;
    seen = { identity, at: isDue ? at : seen.at, changed };
    if (isDue) await compare(at);
    cancel = clock.after(LOOK_MS, () => void look());
  };

  void look();
  return {
    refresh() {
      if (!isRunning) void look();
    },
    close() {
      closed = true;
      cancel();
    },
  };
}

/** Links are followed: an editor puts a new file in the place of the old one, and Kubernetes swaps a link (`..data → ..2026_11_26`). */
async function identityOf(paths: Iterable<string>): Promise<string> {
  const each = [...paths].map(async (path) => {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
      return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
    } catch (error) {
      return reasonOf(error);
    }
  });
  return (await Promise.all(each)).join('\n');
}
