import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ReloadOutcome } from '../admin/app.ts';
import type { Actor } from '../admin/audit.ts';
import { type Loaded, renderProblems } from '../config/load.ts';
import { type ReadFile, reasonOf } from '../config/read-file.ts';
import type { Settings } from '../config/settings.ts';
import type { Log } from '../ports.ts';

/** The part of a gateway that takes the settings of a load. */
interface Reloadable {
  readonly log: Log;
  /** @param by all who asked for this load */
  reload(settings: Settings, by: readonly Actor[]): ReloadOutcome;
  refuseReload(problems: readonly string[], by: readonly Actor[]): ReloadOutcome;
}

export interface Reloader {
  /** The first load, from which the gateway is made. */
  first(): Promise<Loaded>;
  /** Reloads go to this gateway from now on; one that was asked for earlier happens now. `after` is called after each. */
  attach(gateway: Reloadable, after: () => void): Promise<void>;
  /** Loads again. The outcome is that of a load which began after the call. Never throws. */
  reload(by: Actor): Promise<ReloadOutcome>;
  /** The files that the latest load has read, whether it was accepted or not. */
  files(): FileContents;
  /** The result of the latest accepted load. */
  latest(): Settings | null;
}

/** By path: a digest of the content, or the reason why the file could not be read. No secret can be derived from it. */
export type FileContents = ReadonlyMap<string, string>;

/** A file that is replaced while it is read is read again, but not for ever: the watch finds later changes. */
const MAX_READS = 3;

/**
 * Loads run one at a time, and each ends by the deadline of its files. All calls during a load share the next one.
 *
 * @param load loads the configuration, and reads every file by the function it is given
 * @param fileReader makes the reader of one load
 */
export function createReloader(load: (readFile: ReadFile) => Promise<Loaded>, fileReader: () => ReadFile): Reloader {
  let files: FileContents = new Map();
  let latest: Settings | null = null;
  /** Warnings of the latest accepted load. They are logged at the start, and later only those that are new. */
  let known: readonly string[] = [];
  let target: { readonly gateway: Reloadable; readonly after: () => void } | null = null;
  let attached: () => void = () => {};
  /** The load under way. Until a gateway is attached, none is. */
  let running: Promise<unknown> = new Promise<void>((resolve) => {
    attached = resolve;
  });
  let next: { readonly outcome: Promise<ReloadOutcome>; readonly by: Actor[] } | null = null;

  /** All files as they were at one moment, as far as that can be had. */
  const loadConsistent = async (): Promise<Loaded> => {
    for (let reads = 1; ; reads++) {
      const readNow = fileReader();
      const reader = recordingReader(readNow);
      const loaded = await load(reader.readFile).catch(async (error: unknown) => {
        // Without this the watch would take the state of the files for a change, and load it again and again.
        files = await contentsNow(files, readNow);
        throw error;
      });
      if (reads < MAX_READS && !isDeepStrictEqual(reader.files, await contentsNow(reader.files, readNow))) continue;
      files = reader.files;
      if (loaded.ok) {
        latest = loaded.settings;
        known = loaded.warnings;
      }
      return loaded;
    }
  };

  const once = async (by: readonly Actor[]): Promise<ReloadOutcome> => {
    if (target === null) throw new Error('no gateway to reload');
    const { gateway, after } = target;
    try {
      const before = known;
      return apply(gateway, await loadConsistent(), before, by);
    } catch (error) {
      // A fault of the gateway itself must not end a process that serves.
      gateway.log.error({ err: error }, 'reload failed');
      return gateway.refuseReload(['the gateway itself failed at it: see its log'], by);
    } finally {
      after();
    }
  };

  return {
    first: loadConsistent,
    reload(actor) {
      if (next !== null) {
        next.by.push(actor);
        return next.outcome;
      }
      const by = [actor];
      const outcome = running.then(() => {
        next = null;
        const loading = once(by);
        running = loading;
        return loading;
      });
      next = { outcome, by };
      return outcome;
    },
    async attach(gateway, after) {
      target = { gateway, after };
      attached();
      await next?.outcome;
    },
    files: () => files,
    latest: () => latest,
  };
}

function apply(gateway: Reloadable, loaded: Loaded, known: readonly string[], by: readonly Actor[]): ReloadOutcome {
  // Without the last line, which counts the problems.
  if (!loaded.ok) return gateway.refuseReload(renderProblems(loaded.problems).split('\n').slice(0, -1), by);
  const given = new Set(known);
  for (const warning of loaded.warnings) if (!given.has(warning)) gateway.log.warn({}, warning);
  return gateway.reload(loaded.settings, by);
}

/** Reads each file once, so that one load sees it in one state, and records its content. */
export function recordingReader(readFile: ReadFile): { readonly readFile: ReadFile; readonly files: FileContents } {
  const files = new Map<string, string>();
  const texts = new Map<string, Promise<string>>();
  const read = async (path: string): Promise<string> => {
    try {
      const text = await readFile(path);
      files.set(path, digestOf(text));
      return text;
    } catch (error) {
      files.set(path, reasonOf(error));
      throw error;
    }
  };
  return {
    files,
    readFile(path) {
      const text = texts.get(path) ?? read(path);
      texts.set(path, text);
      return text;
    },
  };
}

/** The same files as they are now. */
export async function contentsNow(before: FileContents, readFile: ReadFile): Promise<FileContents> {
  const { files, readFile: read } = recordingReader(readFile);
  await Promise.allSettled([...before.keys()].map(read));
  return files;
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
