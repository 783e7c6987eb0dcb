import { watch } from 'node:fs';
import { readlink, stat } from 'node:fs/promises';
import { basename, dirname, relative, resolve, sep } from 'node:path';
import type { Log } from '../ports.ts';

/** Tells of each change in a directory, with the name of what changed where it is known. Throws where it can not. */
export type WatchDirectory = (
  directory: string,
  onEvent: (name: string | null) => void,
  onError: (error: NodeJS.ErrnoException) => void,
) => { close(): void };

export interface Directories {
  /** From now on watches where these files are, in place of others. True: some of it was not watched before. */
  follow(paths: Iterable<string>): Promise<boolean>;
  close(): void;
}

interface Watched {
  readonly identity: string;
  readonly handle: { close(): void };
  names: ReadonlySet<string>;
}

/** Longer chains of links are somebody's mistake. */
const MOST_LINKS = 8;

/**
 * Watches directories, never files: an editor puts a new file in the place of the old one, and Kubernetes swaps a link beside
 * it (`gateway.yaml → ..data/gateway.yaml`, `..data → ..2026_11_26`); a watch on the file would stay with the old one.
 */
export function watchDirectories(options: {
  readonly onChange: () => void;
  readonly log: Log;
  readonly watchDirectory?: WatchDirectory;
}): Directories {
  const { onChange, log } = options;
  const watchDirectory = options.watchDirectory ?? watchByKernel;
  const watched = new Map<string, Watched>();
  const failing = new Set<string>();

  const drop = (directory: string): void => {
    watched.get(directory)?.handle.close();
    watched.delete(directory);
  };
  const failed = (directory: string, error: NodeJS.ErrnoException): void => {
    drop(directory);
    // Gone since: the next look watches what is above it.
    if (error.code === 'ENOENT' || failing.has(directory)) return;
    failing.add(directory);
    log.warn(
      { directory, reason: error.code },
      'can not be watched: its files are looked at every reload.poll instead',
    );
  };
  const open = (directory: string, identity: string, names: ReadonlySet<string>): boolean => {
    const onEvent = (name: string | null): void => {
      // Told by a directory of itself when it is removed: nothing more will be told by this one.
      if (name === basename(directory)) drop(directory);
      if (name === null || name === basename(directory) || watched.get(directory)?.names.has(name)) onChange();
    };
    try {
      const handle = watchDirectory(directory, onEvent, (error) => failed(directory, error));
      watched.set(directory, { identity, handle, names });
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
      for (const [directory, { identity, names }] of wanted) {
        const known = watched.get(directory);
        if (known?.identity === identity) {
          known.names = names;
          continue;
        }
        drop(directory);
        isNew = open(directory, identity, names) || isNew;
      }
      return isNew;
    },
    close() {
      for (const directory of [...watched.keys()]) drop(directory);
    },
  };
}

interface Place {
  readonly identity: string;
  readonly names: Set<string>;
}

/** The directories in which something must change for the content behind a path to change, and its name there. */
async function placesOf(paths: Iterable<string>): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  const add = async (at: string, name: string): Promise<void> => {
    const identity = await identityOf(at);
    if (identity === null) {
      // It will come back beneath what is there.
      if (dirname(at) !== at) await add(dirname(at), basename(at));
      return;
    }
    const place = places.get(at) ?? { identity, names: new Set() };
    place.names.add(name);
    places.set(at, place);
  };
  for (const path of paths) {
    let at = resolve(path);
    for (let links = 0; links < MOST_LINKS; links++) {
      const directory = dirname(at);
      await add(directory, basename(at));
      const target = await readlink(at).catch(() => null);
      if (target === null) break;
      at = resolve(directory, target);
      // The target may lead through another link of the same directory.
      const [first = ''] = relative(directory, at).split(sep);
      if (first !== '' && first !== '..') await add(directory, first);
    }
  }
  return places;
}

/** Another one under the same name is another directory, also where the file system gives its number again. */
async function identityOf(directory: string): Promise<string | null> {
  try {
    const { dev, ino, birthtimeNs } = await stat(directory, { bigint: true });
    return `${dev}:${ino}:${birthtimeNs}`;
  } catch {
    return null;
  }
}

const watchByKernel: WatchDirectory = (directory, onEvent, onError) => {
  const watcher = watch(directory, { persistent: false }, (_, name) => onEvent(name));
  watcher.on('error', onError);
  return watcher;
};
