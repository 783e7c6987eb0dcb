import { watch } from 'node:fs';
import { readlink, stat } from 'node:fs/promises';
import { basename, dirname, relative, resolve, sep } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../clock.ts';
import type { ReadFile } from '../config/read-file.ts';
import type { Log } from '../ports.ts';
import { contentsNow, type FileContents } from './reloader.ts';

export interface WatchOptions {
  /** The files that the latest load has read, whether it was accepted or not. */
  readonly files: () => FileContents;
  /** `reload.poll`; null where `reload.watch` is off. */
  readonly pollMs: () => number | null;
  /** Loads again. Never throws; `files` is the new state afterwards, whatever the outcome. */
  readonly reload: () => Promise<unknown>;
  /** Makes the reader of one look. */
  readonly fileReader: () => ReadFile;
  readonly clock: Clock;
  readonly log: Log;
  readonly watchDirectory?: WatchDirectory;
}

export interface FileWatch {
  /** A load that was asked for elsewhere is over: other files may count, or none. */
  refresh(): void;
  close(): void;
}

/** A change comes in several events; one look serves them. */
const SOON_MS = 25;
/** A file that is the same in two looks this far apart is taken to be written to its end. */
const SETTLED_MS = 150;
/** A file that goes on changing is loaded after this time as it is then. */
const LONGEST_CHANGE_MS = 5_000;
/** Longer chains of links are a mistake. */
const MAX_LINKS = 8;

/**
 * Loads again when the content of the configuration's files has changed and settled. Events only say when to look. The
 * content decides: a touched file loads nothing, and an event that was lost costs `reload.poll` and no more.
 */
export function watchFiles(options: WatchOptions): FileWatch {
  const { clock, pollMs } = options;
  const directories = watchDirectories({ ...options, onChange: () => lookIn(SOON_MS) });
  let closed = false;
  let looking = false;
  let lookMissed = false;
  /** A change that is not loaded yet: as the last look saw it, since when it is the same, and since when there is one. */
  let changing: { readonly files: FileContents; readonly sameSince: number; readonly since: number } | null = null;
  let timer: { readonly dueAt: number; readonly cancel: () => void } | null = null;

  const lookIn = (ms: number): void => {
    const dueAt = clock.monotonic() + ms;
    if (closed || pollMs() === null || (timer !== null && timer.dueAt <= dueAt)) return;
    timer?.cancel();
    timer = { dueAt, cancel: clock.after(ms, () => void look()) };
  };
  const stop = (): void => {
    timer?.cancel();
    timer = null;
    changing = null;
    directories.close();
  };

  /** Returns the milliseconds until the next look; null: none. */
  const compare = async (): Promise<number | null> => {
    const loaded = options.files();
    const now = await contentsNow(loaded, options.fileReader());
    if (isDeepStrictEqual(now, loaded)) {
      changing = null;
      return pollMs();
    }
    const at = clock.monotonic();
    const since = changing?.since ?? at;
    const sameSince = changing !== null && isDeepStrictEqual(now, changing.files) ? changing.sameSince : at;
    const settledInMs = Math.min(sameSince + SETTLED_MS, since + LONGEST_CHANGE_MS) - at;
    if (settledInMs > 0) {
      changing = { files: now, sameSince, since };
      return settledInMs;
    }
    changing = null;
    await options.reload();
    return pollMs();
  };
  const look = async (): Promise<void> => {
    timer = null;
    lookMissed = looking;
    if (looking) return;
    looking = true;
    const nextMs = await compare();
    // No event reports a change between this look and the beginning of a watch, so a new watch needs another look.
    const isNew = !closed && nextMs !== null && (await directories.follow(options.files().keys()));
    looking = false;
    if (closed || nextMs === null || pollMs() === null) stop();
    else lookIn(isNew || lookMissed ? Math.min(nextMs, SOON_MS) : nextMs);
  };

  lookIn(0);
  return {
    refresh: () => (pollMs() === null ? stop() : lookIn(0)),
    close() {
      closed = true;
      stop();
    },
  };
}

/** Reports each change in a directory, with the name of the changed file where it is known. Throws where it cannot. */
export type WatchDirectory = (
  directory: string,
  onEvent: (name: string | null) => void,
  onError: (error: NodeJS.ErrnoException) => void,
) => { close(): void };

const watchByKernel: WatchDirectory = (directory, onEvent, onError) => {
  const watcher = watch(directory, { persistent: false }, (_, name) => onEvent(name));
  watcher.on('error', onError);
  return watcher;
};

interface Directories {
  /** Watches the directories of these files from now on, and no others. True: one of them was not watched before. */
  follow(paths: Iterable<string>): Promise<boolean>;
  close(): void;
}

/** A directory, and the names in it that count. */
interface Place {
  readonly identity: string;
  readonly names: Set<string>;
}

/**
 * Watches directories, never files: an editor puts a new file in the place of the old one, and Kubernetes swaps a link
 * beside it (`gateway.yaml → ..data/gateway.yaml`, `..data → ..2026_11_26`). A watch on the file would stay with the old one.
 */
function watchDirectories(options: {
  readonly onChange: () => void;
  readonly log: Log;
  readonly watchDirectory?: WatchDirectory;
}): Directories {
  const { onChange, log, watchDirectory = watchByKernel } = options;
  const watched = new Map<string, { readonly place: Place; readonly handle: { close(): void } }>();
  const failing = new Set<string>();

  const drop = (directory: string): void => {
    watched.get(directory)?.handle.close();
    watched.delete(directory);
  };
  const failed = (directory: string, error: NodeJS.ErrnoException): void => {
    drop(directory);
    // A directory that is gone is awaited in the one above it, from the next look on.
    if (error.code === 'ENOENT' || failing.has(directory)) return;
    failing.add(directory);
    log.warn({ directory, reason: error.code }, 'directory cannot be watched; reload.poll finds its changes');
  };
  const open = (directory: string, place: Place): boolean => {
    const onEvent = (name: string | null): void => {
      // A directory reports its own name when it is removed; this watch reports nothing after that.
      const removed = name === basename(directory);
      if (removed) drop(directory);
      if (removed || name === null || watched.get(directory)?.place.names.has(name)) onChange();
    };
    try {
      watched.set(directory, {
        place,
        handle: watchDirectory(directory, onEvent, (error) => failed(directory, error)),
      });
      failing.delete(directory);
      return true;
    } catch (error) {
      failed(directory, error as NodeJS.ErrnoException);
      return false;
    }
  };

  return {
    async follow(paths) {
      const wanted = await placesOf(paths);
      for (const directory of [...watched.keys()]) if (!wanted.has(directory)) drop(directory);
      for (const directory of failing) if (!wanted.has(directory)) failing.delete(directory);
      let isNew = false;
      for (const [directory, place] of wanted) {
        const known = watched.get(directory);
        if (known?.place.identity === place.identity) {
          watched.set(directory, { ...known, place });
          continue;
        }
        drop(directory);
        isNew = open(directory, place) || isNew;
      }
      return isNew;
    },
    close() {
      for (const directory of [...watched.keys()]) drop(directory);
    },
  };
}

/** The directories in which a change can change the content behind a path, with its name there. */
async function placesOf(paths: Iterable<string>): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  const add = async (at: string, name: string): Promise<void> => {
    const identity = await identityOf(at);
    if (identity === null) {
      // A missing directory will appear in the one above it.
      if (dirname(at) !== at) await add(dirname(at), basename(at));
      return;
    }
    const place = places.get(at) ?? { identity, names: new Set() };
    place.names.add(name);
    places.set(at, place);
  };
  for (const path of paths) {
    let at = resolve(path);
    for (let links = 0; links < MAX_LINKS; links++) {
      const directory = dirname(at);
      await add(directory, basename(at));
      const target = await readlink(at).catch(() => null);
      if (target === null) break;
      at = resolve(directory, target);
      // The target may lead through another link in the same directory.
      const [first = ''] = relative(directory, at).split(sep);
      if (first !== '' && first !== '..') await add(directory, first);
    }
  }
  return places;
}

/** A directory that replaces another one under the same name is another one, also where it gets the same inode number. */
async function identityOf(directory: string): Promise<string | null> {
  try {
    const { dev, ino, birthtimeNs } = await stat(directory, { bigint: true });
    return `${dev}:${ino}:${birthtimeNs}`;
  } catch {
    return null;
  }
}
