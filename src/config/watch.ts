import type { Clock } from '../clock.ts';
import type { Log } from '../ports.ts';
import { type WatchDirectory, watchDirectories } from './directories.ts';
import { lookAgain, type Seen, sameSeen } from './seen.ts';

export interface WatchOptions {
  /** What the latest load has read, whether it was good or not. */
  readonly seen: () => Seen;
  /** `reload.poll`; null where `reload.watch` is off. */
  readonly pollMs: () => number | null;
  /** Loads again. Never throws; `seen` is the new state afterwards, whatever came of it. */
  readonly reload: () => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
  readonly watchDirectory?: WatchDirectory;
}

export interface FileWatch {
  /** A load that somebody else asked for is over: other files may count, or none. */
  refresh(): void;
  close(): void;
}

/** A change comes in several events; one look serves them. */
const SOON_MS = 25;
/** What is the same in two looks this far apart is taken to be written to its end. */
const SETTLED_MS = 150;
/** What goes on changing is loaded as it is then. */
const LONGEST_CHANGE_MS = 5_000;

/**
 * Loads again when the content of the configuration's files has changed and settled. Events only say when to look: what
 * counts is the content, so that a touched file loads nothing, and an event that was lost costs `reload.poll` and no more.
 */
export function watchFiles(options: WatchOptions): FileWatch {
  const { clock, pollMs } = options;
  const directories = watchDirectories({ ...options, onChange: () => lookIn(SOON_MS) });
  let closed = false;
  let looking = false;
  let lookMissed = false;
  /** What is not loaded yet: as the last look saw it, since when it has been so, and since when there has been something. */
  let changing: { readonly seen: Seen; readonly sameSince: number; readonly since: number } | null = null;
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

  /** In how many milliseconds to look again. */
  const compare = async (): Promise<number | null> => {
    const loaded = options.seen();
    const now = await lookAgain(loaded);
    if (sameSeen(now, loaded)) {
      changing = null;
      return pollMs();
    }
    const at = clock.monotonic();
    const since = changing?.since ?? at;
    const sameSince = changing !== null && sameSeen(now, changing.seen) ? changing.sameSince : at;
    const settledInMs = Math.min(sameSince + SETTLED_MS, since + LONGEST_CHANGE_MS) - at;
    if (settledInMs > 0) {
      changing = { seen: now, sameSince, since };
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
    // What changed between a look and the watch was told to nobody.
    const isNew = !closed && nextMs !== null && (await directories.follow(options.seen().keys()));
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
